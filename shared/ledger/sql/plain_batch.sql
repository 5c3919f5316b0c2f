-- Plain debits of many organizations, posted in one statement.

-- The organizations for which a batch holds only plain debits, all of them together within the burning
-- grant and the limit, and with nothing else to set off: what each comes to is known without deciding row
-- by row, if its key is new. The accounts are locked already.
CREATE OR REPLACE FUNCTION ledger_plain_organizations(
    p_postings ledger_posting [],
    p_now timestamptz
) RETURNS uuid [] LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    v_plain uuid [];
BEGIN
    SELECT array_agg(a.organization_id) INTO v_plain
    FROM (
        SELECT
            p.organization_id,
            -sum(p.amount) AS burn
        FROM unnest(p_postings) AS p
        GROUP BY p.organization_id
        HAVING
            bool_and(
                p.type IN ('usage', 'adjustment') AND p.amount < 0 AND p.repeated IS NOT TRUE
            )
    ) AS s
    INNER JOIN accounts AS a ON s.organization_id = a.organization_id
    CROSS JOIN LATERAL (
        SELECT
            g.id,
            g.remaining
        FROM credit_grants AS g
        WHERE g.organization_id = a.organization_id AND NOT g.spent
        ORDER BY g.priority, g.expires_at, (NOT g.promotional), g.seq
        LIMIT 1
    ) AS lot
    WHERE
        a.closed_at IS NULL
        AND (a.next_due_at <= p_now) IS NOT TRUE
        AND a.burning_grant_id = lot.id
        AND s.burn < lot.remaining
        AND a.balance - a.held - s.burn >= -a.overdraft_limit
        -- What arms a recharge, ends its wait or is to be announced goes the other way.
        AND NOT a.recharge_waits
        AND (a.balance - a.held - s.burn < a.recharge_below) IS NOT TRUE
        AND (
            a.balance - s.burn < a.low_below
            AND (a.balance >= a.low_below OR NOT a.low_announced)
        ) IS NOT TRUE
        AND a.balance > s.burn;
    RETURN v_plain;
END
$$;

-- Posts the plain debits (see above) of any number of organizations, each table in one statement. Row by
-- row it comes to what ledger_post_organization comes to. A key that is taken is a unique violation.
--
-- Its plan is made once and goes by index, since it may be made while the tables are still empty.
CREATE OR REPLACE FUNCTION ledger_post_plain(
    p_postings ledger_posting [],
    p_organizations uuid [],
    p_now timestamptz
) RETURNS TABLE (
    place integer,
    status text,
    id uuid,
    seq bigint,
    amount numeric,
    balance_after numeric,
    created_at timestamptz
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH decided AS (
        SELECT
            p.ordinality::integer AS place,
            a.organization_id,
            a.last_seq + row_number() OVER until_here AS seq,
            p.id,
            p.type,
            p.amount::numeric(38, 9) AS amount,
            p.counterparty,
            (a.balance + sum(p.amount) OVER until_here)::numeric(38, 9) AS balance_after,
            (a.consumed - sum(p.amount) OVER until_here)::numeric(38, 9) AS consumed_after,
            p.key,
            p.digest,
            coalesce(p.effective_at, greatest(p_now, a.updated_at)) AS effective_at,
            greatest(p_now, a.updated_at) AS created_at,
            p.description,
            p.category,
            p.quantity::numeric(38, 9) AS quantity,
            p.user_id,
            p.grant_id,
            p.hold_id,
            p.payment_intent_id,
            p.metadata,
            a.last_hash,
            a.burning_grant_id,
            a.consumed AS consumed_before,
            lead(FALSE, 1, TRUE) OVER (
                PARTITION BY a.organization_id ORDER BY p.ordinality
            ) AS is_last
        FROM unnest(p_organizations) AS o (organization_id)
        INNER JOIN accounts AS a ON o.organization_id = a.organization_id
        INNER JOIN unnest(p_postings) WITH ORDINALITY AS p
            ON a.organization_id = p.organization_id
        WINDOW
            until_here AS (
                PARTITION BY a.organization_id ORDER BY p.ordinality ROWS UNBOUNDED PRECEDING
            )
    ),

    posted AS MATERIALIZED (
        SELECT
            d.*,
            ledger_chain(
                d.last_hash,
                ledger_row_canonical(
                    row(
                        d.organization_id,
                        d.seq,
                        d.id,
                        d.type,
                        d.amount,
                        d.counterparty,
                        d.balance_after,
                        d.consumed_after,
                        d.key,
                        d.digest,
                        d.effective_at,
                        d.created_at,
                        d.description,
                        d.category,
                        d.quantity,
                        d.user_id,
                        d.grant_id,
                        d.hold_id,
                        d.payment_intent_id,
                        d.metadata,
                        NULL
                    )::credit_transactions
                )
            ) OVER (
                PARTITION BY d.organization_id ORDER BY d.place ROWS UNBOUNDED PRECEDING
            ) AS hash
        FROM decided AS d
    ),

    appended AS (
        INSERT INTO credit_transactions
        SELECT
            r.organization_id,
            r.seq,
            r.id,
            r.type,
            r.amount,
            r.counterparty,
            r.balance_after,
            r.consumed_after,
            r.key,
            r.digest,
            r.effective_at,
            r.created_at,
            r.description,
            r.category,
            r.quantity,
            r.user_id,
            r.grant_id,
            r.hold_id,
            r.payment_intent_id,
            r.metadata,
            r.hash
        FROM posted AS r
    ),

    totalled AS (
        INSERT INTO usage_totals AS u (organization_id, category, hour, quantity, cost, transactions)
        SELECT
            r.organization_id,
            r.category,
            date_trunc('hour', r.effective_at, 'UTC'),
            sum(coalesce(r.quantity, 0)),
            sum(-r.amount),
            count(*)
        FROM posted AS r
        WHERE r.type = 'usage' AND r.category IS NOT NULL
        GROUP BY 1, 2, 3
        ON CONFLICT (organization_id, category, hour) DO UPDATE
        SET
            quantity = u.quantity + excluded.quantity,
            cost = u.cost + excluded.cost,
            transactions = u.transactions + excluded.transactions
    ),

    burned AS (
        UPDATE credit_grants AS g
        SET remaining = g.remaining - (r.consumed_after - r.consumed_before)
        FROM posted AS r
        WHERE
            r.is_last
            AND g.organization_id = r.organization_id
            AND g.id = r.burning_grant_id
    ),

    heads AS (
        UPDATE accounts AS a
        SET
            balance = r.balance_after,
            consumed = r.consumed_after,
            last_seq = r.seq,
            last_hash = r.hash,
            updated_at = r.created_at
        FROM posted AS r
        WHERE r.is_last AND a.organization_id = r.organization_id
    )

    SELECT
        r.place,
        'posted',
        r.id,
        r.seq,
        r.amount::numeric,
        r.balance_after::numeric,
        r.created_at
    FROM posted AS r;
END
$$;
