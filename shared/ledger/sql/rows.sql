-- Rows of the ledger: how a posting becomes a row, and how rows are written.

-- The row of a posting. A credit names the grant that it opens, which has the id of the row.
--
-- PostgreSQL inlines it: a batch of plain debits pays no call for each row.
CREATE OR REPLACE FUNCTION ledger_row(
    p_posting ledger_posting,
    p_seq bigint,
    p_amount numeric,
    p_balance_after numeric,
    p_consumed_after numeric,
    p_created_at timestamptz,
    p_hash bytea
) RETURNS credit_transactions LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT row(
        p_posting.organization_id,
        p_seq,
        p_posting.id,
        p_posting.type,
        p_amount,
        p_posting.counterparty,
        p_balance_after,
        p_consumed_after,
        p_posting.key,
        p_posting.digest,
        coalesce(p_posting.effective_at, p_created_at),
        p_created_at,
        p_posting.description,
        p_posting.category,
        p_posting.quantity,
        p_posting.user_id,
        CASE WHEN p_amount > 0 THEN p_posting.id ELSE p_posting.grant_id END,
        p_posting.hold_id,
        p_posting.payment_intent_id,
        p_posting.metadata,
        p_hash
    )::credit_transactions
$$;

-- Postings with their places, counted from 1. PostgreSQL inlines it.
CREATE OR REPLACE FUNCTION ledger_places(
    p_postings ledger_posting []
) RETURNS TABLE (posting ledger_posting, place integer) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT
        p,
        (row_number() OVER ())::integer
    FROM unnest(p_postings) AS p
$$;

-- What a row of usage adds to the totals of its category and hour. PostgreSQL inlines it.
CREATE OR REPLACE FUNCTION ledger_usage(
    p_row credit_transactions
) RETURNS usage_totals LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT row(
        p_row.organization_id,
        p_row.category,
        date_trunc('hour', p_row.effective_at, 'UTC'),
        coalesce(p_row.quantity, 0),
        -p_row.amount,
        1
    )::usage_totals
$$;

-- Adds usage to the totals of its category and hour.
CREATE OR REPLACE FUNCTION ledger_add_usage(
    p_usage usage_totals []
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_totals AS u (organization_id, category, hour, quantity, cost, transactions)
    SELECT
        a.organization_id,
        a.category,
        a.hour,
        sum(a.quantity),
        sum(a.cost),
        sum(a.transactions)
    FROM unnest(p_usage) AS a
    GROUP BY 1, 2, 3
    ON CONFLICT (organization_id, category, hour) DO UPDATE
    SET
        quantity = u.quantity + excluded.quantity,
        cost = u.cost + excluded.cost,
        transactions = u.transactions + excluded.transactions;
END
$$;
