-- Movements: what was added to grants in a period and what was taken from them, by the payment that paid for them.
-- Every figure follows from rows and burn segments until the end of the period, and later rows do not change it.

-- The debits of other types than usage until a row, each with the range of consumption that it burned.
CREATE OR REPLACE FUNCTION ledger_other_debits(
    p_organization_id uuid,
    p_last_seq bigint
) RETURNS TABLE (
    seq bigint,
    type text,
    amount numeric,
    grant_id uuid,
    payment_intent_id text,
    lower numeric,
    upper numeric
) LANGUAGE sql STABLE AS $$
    SELECT
        t.seq,
        t.type,
        t.amount,
        t.grant_id,
        t.payment_intent_id,
        coalesce(b.consumed_after, 0),
        t.consumed_after
    FROM credit_transactions AS t
    LEFT JOIN LATERAL (
        SELECT c.consumed_after
        FROM credit_transactions AS c
        WHERE c.organization_id = p_organization_id AND c.seq = t.seq - 1
    ) AS b ON TRUE
    WHERE
        t.organization_id = p_organization_id
        AND t.type NOT IN ('usage', 'hold_capture')
        AND t.seq <= p_last_seq
        AND t.amount < 0
$$;

-- The credits of grants that each of these debits took: `line` is the reason, and `taken_seq` the row, or the grant
-- where it came later and covered the debt of the row.
CREATE OR REPLACE FUNCTION ledger_other_takings(
    p_organization_id uuid,
    p_last_seq bigint
) RETURNS TABLE (
    grant_id uuid,
    payment_intent_id text,
    line text,
    taken_seq bigint,
    amount numeric
) LANGUAGE sql STABLE AS $$
    WITH debits AS MATERIALIZED (
        SELECT o.* FROM ledger_other_debits(p_organization_id, p_last_seq) AS o
    )

    -- Burned in order, like usage.
    SELECT
        s.grant_id,
        NULL,
        CASE WHEN d.type = 'adjustment' THEN 'adjusted' ELSE 'refunded' END,
        greatest(d.seq, g.seq),
        least(coalesce(s.upper, d.upper), d.upper) - greatest(s.lower, d.lower)
    FROM debits AS d
    INNER JOIN burn_segments AS s
        ON
            s.organization_id = p_organization_id
            AND s.lower >= coalesce(
                (
                    SELECT max(m.lower)
                    FROM burn_segments AS m
                    WHERE m.organization_id = p_organization_id AND m.lower <= d.lower
                ),
                0
            )
            AND s.lower < d.upper
            AND (s.upper > d.lower) IS NOT FALSE
    INNER JOIN credit_grants AS g ON g.organization_id = p_organization_id AND s.grant_id = g.id
    WHERE d.upper > d.lower AND g.seq <= p_last_seq
    UNION ALL
    -- Taken from the grants of the payment that is reversed.
    SELECT
        NULL,
        d.payment_intent_id,
        'refunded',
        d.seq,
        -d.amount - (d.upper - d.lower)
    FROM debits AS d
    WHERE d.type IN ('refund', 'dispute') AND -d.amount > d.upper - d.lower
    UNION ALL
    -- The rest of a grant that ended.
    SELECT
        d.grant_id,
        NULL,
        CASE WHEN d.type = 'void' THEN 'voided' ELSE 'expired' END,
        d.seq,
        -d.amount
    FROM debits AS d
    WHERE d.type IN ('expiration', 'void')
$$;

-- The credits of grants that all debits burned until a row: `burned`, and `burned_before` until an earlier row.
CREATE OR REPLACE FUNCTION ledger_burned(
    p_organization_id uuid,
    p_before_seq bigint,
    p_last_seq bigint
) RETURNS TABLE (grant_id uuid, burned_before numeric, burned numeric) LANGUAGE sql STABLE AS $$
    WITH consumed AS MATERIALIZED (
        SELECT
            coalesce(
                (
                    SELECT t.consumed_after
                    FROM credit_transactions AS t
                    WHERE t.organization_id = p_organization_id AND t.seq = p_before_seq
                ),
                0
            ) AS before,
            coalesce(
                (
                    SELECT t.consumed_after
                    FROM credit_transactions AS t
                    WHERE t.organization_id = p_organization_id AND t.seq = p_last_seq
                ),
                0
            ) AS last
    )

    SELECT
        g.id,
        coalesce(
            sum(least(coalesce(s.upper, c.before), c.before) - s.lower) FILTER (
                WHERE s.lower < c.before AND g.seq <= p_before_seq
            ),
            0
        ),
        sum(least(coalesce(s.upper, c.last), c.last) - s.lower)
    FROM consumed AS c
    INNER JOIN burn_segments AS s ON s.organization_id = p_organization_id AND s.lower < c.last
    INNER JOIN credit_grants AS g ON g.organization_id = p_organization_id AND s.grant_id = g.id
    WHERE g.seq <= p_last_seq
    GROUP BY g.id
$$;

-- The money of a part of a payment's credits, in the smallest unit, half rounded up; of all of them, the payment.
CREATE OR REPLACE FUNCTION ledger_money(
    p_minor bigint,
    p_credits numeric,
    p_part numeric
) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT div(2 * p_minor * p_part + p_credits, 2 * p_credits)
$$;

-- What was added to grants and taken from them until row `p_last_seq`, each with its line; `…_before`: until row
-- `p_before_seq`. A line may have several amounts for a payment.
CREATE OR REPLACE FUNCTION ledger_moves(
    p_organization_id uuid,
    p_before_seq bigint,
    p_last_seq bigint
) RETURNS TABLE (payment_intent_id text, line text, amount numeric) LANGUAGE sql STABLE AS $$
    WITH grants AS MATERIALIZED (
        SELECT
            g.id,
            g.seq,
            g.original,
            g.payment_intent_id,
            t.type
        FROM credit_grants AS g
        INNER JOIN credit_transactions AS t ON g.organization_id = t.organization_id AND g.seq = t.seq
        WHERE g.organization_id = p_organization_id AND g.seq <= p_last_seq
    )

    SELECT
        g.payment_intent_id,
        CASE
            WHEN g.seq <= p_before_seq THEN 'added_before'
            WHEN g.type = 'dispute_reversal' THEN 'returned'
            ELSE 'added'
        END,
        g.original
    FROM grants AS g
    UNION ALL
    SELECT
        g.payment_intent_id,
        b.line,
        b.amount
    FROM ledger_burned(p_organization_id, p_before_seq, p_last_seq) AS r
    INNER JOIN grants AS g ON r.grant_id = g.id
    CROSS JOIN LATERAL (
        VALUES ('taken_before', r.burned_before), ('used', r.burned - r.burned_before)
    ) AS b (line, amount)
    UNION ALL
    SELECT
        coalesce(g.payment_intent_id, o.payment_intent_id),
        c.line,
        c.amount
    FROM ledger_other_takings(p_organization_id, p_last_seq) AS o
    LEFT JOIN grants AS g ON o.grant_id = g.id
    -- What such a debit burned is part of `used` above: it moves to the line of its reason.
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN o.taken_seq <= p_before_seq THEN 'taken_before' ELSE o.line END AS line,
            o.amount AS amount
        UNION ALL
        SELECT
            CASE WHEN o.taken_seq <= p_before_seq THEN 'taken_before' ELSE 'used' END,
            -o.amount
        WHERE o.line IN ('refunded', 'adjusted') AND o.grant_id IS NOT NULL
    ) AS c
$$;

-- The movements of an organization after row `p_before_seq` until row `p_last_seq`, by the payment of the grants (NULL:
-- grants without one): credits added and taken before, and in the period credits added, returned by a won dispute,
-- used, refunded (disputes included), expired, adjusted and voided. Grants that were spent before are left out.
--
-- A debit that was debt is of the period in which a credit covered it.
CREATE OR REPLACE FUNCTION ledger_movements(
    p_organization_id uuid,
    p_before_seq bigint,
    p_last_seq bigint
) RETURNS TABLE (
    payment_intent_id text,
    added_before numeric,
    taken_before numeric,
    added numeric,
    returned numeric,
    used numeric,
    refunded numeric,
    expired numeric,
    adjusted numeric,
    voided numeric
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT
        s.payment_intent_id,
        s.added_before,
        s.taken_before,
        s.added,
        s.returned,
        s.used,
        s.refunded,
        s.expired,
        s.adjusted,
        s.voided
    FROM (
        SELECT
            m.payment_intent_id,
            coalesce(sum(m.amount) FILTER (WHERE m.line = 'added_before'), 0) AS added_before,
            coalesce(sum(m.amount) FILTER (WHERE m.line = 'taken_before'), 0) AS taken_before,
            coalesce(sum(m.amount) FILTER (WHERE m.line = 'added'), 0) AS added,
            coalesce(sum(m.amount) FILTER (WHERE m.line = 'returned'), 0) AS returned,
            coalesce(sum(m.amount) FILTER (WHERE m.line = 'used'), 0) AS used,
            coalesce(sum(m.amount) FILTER (WHERE m.line = 'refunded'), 0) AS refunded,
            coalesce(sum(m.amount) FILTER (WHERE m.line = 'expired'), 0) AS expired,
            coalesce(sum(m.amount) FILTER (WHERE m.line = 'adjusted'), 0) AS adjusted,
            coalesce(sum(m.amount) FILTER (WHERE m.line = 'voided'), 0) AS voided,
            max(m.amount) FILTER (WHERE m.line NOT IN ('added_before', 'taken_before')) AS latest
        FROM ledger_moves(p_organization_id, p_before_seq, p_last_seq) AS m
        GROUP BY m.payment_intent_id
    ) AS s
    WHERE s.added_before <> s.taken_before OR s.latest <> 0;
END
$$;
