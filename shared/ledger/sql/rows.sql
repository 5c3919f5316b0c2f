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

-- The values of some dimensions of a row, by name: a text or null, and of tags a list.
CREATE OR REPLACE FUNCTION ledger_subject(
    p_dimensions text [],
    p_row credit_transactions
) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT jsonb_object_agg(
        d.name,
        CASE d.name WHEN 'tag' THEN to_jsonb(v.texts) ELSE to_jsonb(v.texts[1]) END
    )
    FROM unnest(p_dimensions) AS d (name)
    CROSS JOIN LATERAL (
        SELECT array(
            SELECT t.text
            FROM unnest(ledger_dimension(d.name, p_row.user_id, p_row.category, p_row.metadata)) AS t (text)
            ORDER BY t.text
        ) AS texts
    ) AS v
$$;

-- How many subjects an hour has of an organization; what comes later is added to one subject more.
CREATE OR REPLACE FUNCTION ledger_subjects_max() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 1000
$$;

-- The subject of usage beyond the limit.
CREATE OR REPLACE FUNCTION ledger_rest_subject() RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT '{"rest": true}'::jsonb
$$;

-- Adds the usage among rows to the totals of their subjects and hours, under the lock of the account: while subjects
-- are known it looks up each by its key, and counts them only where one is new. Returns TRUE.
CREATE OR REPLACE FUNCTION ledger_add_breakdown(
    p_organization_id uuid,
    p_dimensions text [],
    p_rows credit_transactions []
) RETURNS boolean LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
BEGIN
    WITH added AS MATERIALIZED (
        SELECT
            date_trunc('hour', r.effective_at, 'UTC') AS hour,
            s.subject,
            coalesce(sum(r.quantity), 0) AS quantity,
            -sum(r.amount) AS cost,
            count(*) AS transactions
        FROM unnest(p_rows) AS r
        CROSS JOIN LATERAL (SELECT ledger_subject(p_dimensions, r) AS subject) AS s
        WHERE r.type IN ('usage', 'hold_capture')
        GROUP BY 1, 2
    ),

    fresh AS MATERIALIZED (
        SELECT
            a.hour,
            a.subject,
            row_number() OVER (PARTITION BY a.hour ORDER BY a.subject) AS place
        FROM added AS a
        WHERE NOT EXISTS (
            SELECT FROM usage_breakdowns AS u
            WHERE
                u.organization_id = p_organization_id
                AND u.hour = a.hour
                AND u.subject_sha256 = sha256(convert_to(a.subject::text, 'UTF8'))
        )
    ),

    hours AS MATERIALIZED (
        SELECT
            f.hour,
            (
                SELECT count(*)
                FROM usage_breakdowns AS u
                WHERE u.organization_id = p_organization_id AND u.hour = f.hour
            ) AS subjects
        FROM fresh AS f
        GROUP BY f.hour
    )

    INSERT INTO usage_breakdowns AS u (
        organization_id, hour, subject_sha256, subject, quantity, cost, transactions
    )
    SELECT
        p_organization_id,
        t.hour,
        sha256(convert_to(t.subject::text, 'UTF8')),
        t.subject,
        sum(t.quantity),
        sum(t.cost),
        sum(t.transactions)
    FROM (
        SELECT
            a.hour,
            CASE
                WHEN h.subjects + f.place > ledger_subjects_max() THEN ledger_rest_subject()
                ELSE a.subject
            END AS subject,
            a.quantity,
            a.cost,
            a.transactions
        FROM added AS a
        LEFT JOIN fresh AS f ON a.hour = f.hour AND a.subject = f.subject
        LEFT JOIN hours AS h ON f.hour = h.hour
    ) AS t
    GROUP BY 1, 2, 4
    ON CONFLICT (organization_id, hour, subject_sha256) DO UPDATE
    SET
        quantity = u.quantity + excluded.quantity,
        cost = u.cost + excluded.cost,
        transactions = u.transactions + excluded.transactions;
    RETURN TRUE;
END
$$;
