-- Movements: what was added to grants in a period and what was taken from them, by the payment that paid for them.
-- Every figure follows from rows and burn segments until the end of the period, and later rows do not change it.

DROP FUNCTION IF EXISTS ledger_other_debits(uuid, bigint);

-- The credits of grants that each debit of another type than usage took until a row: `line` is the reason, and
-- `taken_seq` the row, or the grant where it came later and covered the debt of the row. A debit burned the range of
-- consumption from `lower` to `upper`.
CREATE OR REPLACE FUNCTION ledger_other_takings(
    p_organization_id uuid,
    p_last_seq bigint
) RETURNS TABLE (
    grant_id uuid,
    payment_intent_id text,
    line text,
    taken_seq bigint,
    amount numeric
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH debits AS MATERIALIZED (
        SELECT
            t.seq,
            t.type,
            t.amount,
            t.grant_id,
            t.payment_intent_id,
            coalesce(b.consumed_after, 0) AS lower,
            t.consumed_after AS upper
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
    WHERE d.type IN ('expiration', 'void');
END
$$;

-- The credits of grants that all debits burned until a row: `burned`, and `burned_before` until an earlier row.
CREATE OR REPLACE FUNCTION ledger_burned(
    p_organization_id uuid,
    p_before_seq bigint,
    p_last_seq bigint
) RETURNS TABLE (grant_id uuid, burned_before numeric, burned numeric) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
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
    GROUP BY g.id;
END
$$;

-- The money of a part of a payment's credits, in the smallest unit, half rounded up; of all of them, the payment.
CREATE OR REPLACE FUNCTION ledger_money(
    p_minor bigint,
    p_credits numeric,
    p_part numeric
) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT div(2 * p_minor * p_part + p_credits, 2 * p_credits)
$$;

-- The grants until a row, each with the type of its row.
CREATE OR REPLACE FUNCTION ledger_grants_until(
    p_organization_id uuid,
    p_last_seq bigint
) RETURNS TABLE (
    id uuid,
    seq bigint,
    original numeric,
    payment_intent_id text,
    type text
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT
        g.id,
        g.seq,
        g.original,
        g.payment_intent_id,
        t.type
    FROM credit_grants AS g
    INNER JOIN credit_transactions AS t ON g.organization_id = t.organization_id AND g.seq = t.seq
    WHERE g.organization_id = p_organization_id AND g.seq <= p_last_seq;
END
$$;

-- What was added to grants and taken from them until row `p_last_seq`, each with its line; `…_before`: until row
-- `p_before_seq`. A line may have several amounts for a payment.
CREATE OR REPLACE FUNCTION ledger_moves(
    p_organization_id uuid,
    p_before_seq bigint,
    p_last_seq bigint
) RETURNS TABLE (payment_intent_id text, line text, amount numeric) LANGUAGE sql STABLE AS $$
    WITH grants AS MATERIALIZED (
        SELECT g.* FROM ledger_grants_until(p_organization_id, p_last_seq) AS g
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

-- A page of the ledgers that have rows, after an organization: their rows from a moment until another, the balances
-- and the consumption that no grant has paid for.
CREATE OR REPLACE FUNCTION ledger_heads_between(
    p_after uuid,
    p_from timestamptz,
    p_until timestamptz,
    p_organizations_max integer
) RETURNS TABLE (
    organization_id uuid,
    currency text,
    before_seq bigint,
    last_seq bigint,
    opening numeric,
    closing numeric,
    debt_opening numeric,
    debt_closing numeric,
    last_hash bytea
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_consumed_before numeric;
    v_consumed numeric;
BEGIN
    FOR organization_id IN
        SELECT a.organization_id
        FROM accounts AS a
        WHERE a.organization_id > p_after AND a.last_seq > 0
        ORDER BY a.organization_id
        LIMIT p_organizations_max
    LOOP
        SELECT o.currency INTO currency FROM organizations AS o WHERE o.id = organization_id;
        SELECT
            p.seq,
            p.balance,
            p.consumed
        INTO before_seq, opening, v_consumed_before
        FROM ledger_position(organization_id, p_from) AS p;
        SELECT
            p.seq,
            p.balance,
            p.consumed,
            p.hash
        INTO last_seq, closing, v_consumed, last_hash
        FROM ledger_position(organization_id, p_until) AS p;
        SELECT
            v_consumed_before - coalesce(sum(b.burned_before), 0),
            v_consumed - coalesce(sum(b.burned), 0)
        INTO debt_opening, debt_closing
        FROM ledger_burned(organization_id, before_seq, last_seq) AS b;
        RETURN NEXT;
    END LOOP;
END
$$;

-- What rows of an organization, after one until another, took from each system account.
CREATE OR REPLACE FUNCTION ledger_counterparties(
    p_organization_id uuid,
    p_before_seq bigint,
    p_last_seq bigint
) RETURNS TABLE (account text, amount numeric) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY
    SELECT
        t.counterparty,
        sum(t.amount)
    FROM credit_transactions AS t
    WHERE t.organization_id = p_organization_id AND t.seq > p_before_seq AND t.seq <= p_last_seq
    GROUP BY t.counterparty;
END
$$;
