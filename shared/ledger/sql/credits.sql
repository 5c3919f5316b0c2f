-- Credits of one organization, posted set by set: what a backlog of payments is.

-- Whether postings are credits alone, and none depends on the one before it but in its running totals: no debt is left
-- to pay, and nothing expires first.
CREATE OR REPLACE FUNCTION ledger_takes_credits(
    p_account accounts,
    p_postings ledger_posting []
) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN
        p_account.closed_at IS NULL
        AND p_account.balance >= 0
        AND NOT EXISTS (
            SELECT FROM unnest(p_postings) AS p
            WHERE
                (p.amount > 0) IS NOT TRUE
                OR p.type NOT IN ('purchase', 'recharge', 'grant', 'bonus', 'adjustment', 'dispute_reversal')
        );
END
$$;

-- The rows of new credits, in their order, each with the hash of its chain.
CREATE OR REPLACE FUNCTION ledger_credit_rows(
    p_account accounts,
    p_postings ledger_posting [],
    p_now timestamptz
) RETURNS credit_transactions [] LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN array(
        SELECT
            ledger_row(
                c.posting,
                c.seq,
                (c.posting).amount,
                c.balance_after,
                p_account.consumed,
                p_now,
                ledger_chain(
                    p_account.last_hash,
                    ledger_row_canonical(
                        ledger_row(
                            c.posting,
                            c.seq,
                            (c.posting).amount,
                            c.balance_after,
                            p_account.consumed,
                            p_now,
                            NULL
                        )
                    )
                ) OVER (ORDER BY c.place ROWS UNBOUNDED PRECEDING)
            )
        FROM (
            SELECT
                p.posting,
                p.place,
                p_account.last_seq + p.place AS seq,
                p_account.balance
                + p_account.expired
                + sum((p.posting).amount) OVER (ORDER BY p.place ROWS UNBOUNDED PRECEDING) AS balance_after
            FROM ledger_places(p_postings) AS p
        ) AS c
        ORDER BY c.place
    );
END
$$;

-- Opens the grants of new credits (see ledger_open_grant), in one statement: there is no debt to pay.
CREATE OR REPLACE FUNCTION ledger_add_grants(
    p_account accounts,
    p_rows credit_transactions [],
    p_postings ledger_posting []
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    INSERT INTO credit_grants (
        organization_id,
        id,
        transaction_id,
        seq,
        original,
        remaining,
        priority,
        promotional,
        expires_at,
        payment_intent_id,
        created_at,
        terms_hash
    )
    SELECT
        g.organization_id,
        g.grant_id,
        g.id,
        g.seq,
        g.amount,
        g.amount,
        g.priority,
        g.promotional,
        ledger_grant_expiry(p_account, g.expires_at),
        g.payment_intent_id,
        g.created_at,
        ledger_terms_hash(g.organization_id, g.grant_id, g.priority, g.promotional, g.expires_at)
    FROM (
        SELECT
            r.*,
            coalesce((p.posting).priority, 50::smallint) AS priority,
            coalesce((p.posting).promotional, FALSE) AS promotional,
            (p.posting).expires_at
        FROM unnest(p_rows) AS r
        INNER JOIN ledger_places(p_postings) AS p
            ON r.seq - p_account.last_seq = p.place
    ) AS g;
END
$$;

-- The results of credits: of those that were posted now, and of those whose keys were posted before.
CREATE OR REPLACE FUNCTION ledger_credit_results(
    p_organization_id uuid,
    p_postings ledger_posting [],
    p_seqs bigint [],
    p_rows credit_transactions []
) RETURNS TABLE (
    status text,
    id uuid,
    seq bigint,
    amount numeric,
    balance_after numeric,
    created_at timestamptz
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_known credit_transactions [] := array(
        SELECT t
        FROM (SELECT DISTINCT u.seq FROM unnest(p_seqs) AS u (seq) WHERE u.seq IS NOT NULL) AS s
        CROSS JOIN LATERAL (
            SELECT f AS t
            FROM credit_transactions AS f
            WHERE f.organization_id = p_organization_id AND f.seq = s.seq
            OFFSET 0
        ) AS k
    );
BEGIN
    RETURN QUERY
    SELECT
        CASE
            WHEN p_seqs[p.place] IS NULL AND (p.posting).repeated IS NOT TRUE THEN 'posted'
            WHEN r.request_digest = (p.posting).digest THEN 'replayed'
            ELSE 'conflict'
        END,
        r.id,
        r.seq,
        r.amount,
        r.balance_after,
        r.created_at
    FROM ledger_places(p_postings) AS p
    INNER JOIN unnest(v_known || p_rows) AS r
        ON (p.posting).key = r.idempotency_key
    ORDER BY p.place;
END
$$;

-- Posts credits (see ledger_takes_credits) of an organization whose account is locked: each table in one statement. Row
-- by row the result is that of ledger_post_organization, which calls it with what ledger_begin returned.
CREATE OR REPLACE FUNCTION ledger_post_credits(
    p_account accounts,
    p_now timestamptz,
    p_due boolean,
    p_postings ledger_posting [],
    p_seqs bigint []
) RETURNS TABLE (
    status text,
    id uuid,
    seq bigint,
    amount numeric,
    balance_after numeric,
    created_at timestamptz,
    held numeric,
    available numeric,
    budget jsonb
) LANGUAGE plpgsql AS $$
DECLARE
    v_new ledger_posting [] := array(
        SELECT p.posting
        FROM ledger_places(p_postings) AS p
        WHERE p_seqs[p.place] IS NULL AND (p.posting).repeated IS NOT TRUE
        ORDER BY p.place
    );
    v_rows credit_transactions [] := ledger_credit_rows(p_account, v_new, p_now);
    v_last credit_transactions := v_rows[cardinality(v_rows)];
BEGIN
    IF cardinality(v_rows) > 0 THEN
        PERFORM ledger_add_grants(p_account, v_rows, v_new);
        p_account.balance := v_last.balance_after - p_account.expired;
        p_account.last_seq := v_last.seq;
        p_account.last_hash := v_last.hash;
    END IF;
    PERFORM ledger_finish(p_account, v_rows, p_now, 0, p_due OR cardinality(v_rows) > 0, NULL, NULL);
    RETURN QUERY
    SELECT
        r.*,
        NULL::numeric,
        NULL::numeric,
        NULL::jsonb
    FROM ledger_credit_results(p_account.organization_id, p_postings, p_seqs, v_rows) AS r;
END
$$;
