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

-- What rows of usage add to the totals of their subjects and hours.
CREATE OR REPLACE FUNCTION ledger_subject_totals(
    p_dimensions text [],
    p_rows credit_transactions []
) RETURNS TABLE (
    hour timestamptz,
    subject jsonb,
    quantity numeric,
    cost numeric,
    transactions bigint
) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT
        date_trunc('hour', r.effective_at, 'UTC'),
        s.subject,
        coalesce(sum(r.quantity), 0),
        -sum(r.amount),
        count(*)
    FROM unnest(p_rows) AS r
    CROSS JOIN LATERAL (SELECT ledger_subject(p_dimensions, r) AS subject) AS s
    WHERE r.type IN ('usage', 'hold_capture')
    GROUP BY 1, 2
$$;

-- The subjects among these of an hour that have no totals yet, and no room: the hour has its limit of subjects.
CREATE OR REPLACE FUNCTION ledger_subjects_beyond(
    p_organization_id uuid,
    p_hour timestamptz,
    p_subjects jsonb []
) RETURNS jsonb [] LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
DECLARE
    v_fresh jsonb [];
    v_room bigint;
BEGIN
    SELECT array_agg(s.subject ORDER BY s.subject) INTO v_fresh
    FROM unnest(p_subjects) AS s (subject)
    WHERE NOT EXISTS (
        SELECT FROM usage_breakdowns AS u
        WHERE
            u.organization_id = p_organization_id
            AND u.hour = p_hour
            AND u.subject_sha256 = sha256(convert_to(s.subject::text, 'UTF8'))
    );
    -- Most often every subject is known, and nothing is counted.
    IF v_fresh IS NULL THEN
        RETURN '{}';
    END IF;
    SELECT greatest(ledger_subjects_max() - count(*), 0) INTO v_room
    FROM usage_breakdowns AS u
    WHERE u.organization_id = p_organization_id AND u.hour = p_hour;
    RETURN v_fresh[v_room + 1:];
END
$$;

-- Adds the usage among rows to the totals of their subjects and hours, under the lock of the account.
CREATE OR REPLACE FUNCTION ledger_add_breakdown(
    p_organization_id uuid,
    p_dimensions text [],
    p_rows credit_transactions []
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
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
            h.hour,
            CASE WHEN s.subject = any(h.beyond) THEN ledger_rest_subject() ELSE s.subject END AS subject,
            s.quantity,
            s.cost,
            s.transactions
        FROM (
            SELECT
                a.hour,
                ledger_subjects_beyond(p_organization_id, a.hour, array_agg(DISTINCT a.subject)) AS beyond
            FROM ledger_subject_totals(p_dimensions, p_rows) AS a
            GROUP BY a.hour
        ) AS h
        INNER JOIN ledger_subject_totals(p_dimensions, p_rows) AS s ON h.hour = s.hour
    ) AS t
    GROUP BY 1, 2, 4
    ON CONFLICT (organization_id, hour, subject_sha256) DO UPDATE
    SET
        quantity = u.quantity + excluded.quantity,
        cost = u.cost + excluded.cost,
        transactions = u.transactions + excluded.transactions;
END
$$;

-- Adds plain debits that were posted just now, of organizations that turned dimensions on: the last row of each
-- account has its time.
CREATE OR REPLACE FUNCTION ledger_add_breakdowns(
    p_postings ledger_posting [],
    p_organizations uuid []
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
BEGIN
    -- Most often there is no such organization, and this look-up is all that a debit pays.
    IF NOT EXISTS (
        SELECT FROM accounts AS a
        WHERE a.organization_id = any(p_organizations) AND a.usage_dimensions IS NOT NULL
    ) THEN
        RETURN;
    END IF;
    PERFORM ledger_add_breakdown(
        a.organization_id,
        a.usage_dimensions,
        array_agg(ledger_row(p, 0, p.amount, 0, 0, a.updated_at, NULL))
    )
    FROM accounts AS a
    INNER JOIN unnest(p_postings) AS p ON a.organization_id = p.organization_id
    WHERE a.organization_id = any(p_organizations) AND a.usage_dimensions IS NOT NULL
    GROUP BY a.organization_id, a.usage_dimensions;
END
$$;
