-- Reads: rows and balances at a moment, the uses of a grant, and the accounts of the system.

-- The seq of an organization's last row before a moment, 0 where there is none: located by bisection along seq, since
-- created_at never decreases.
CREATE OR REPLACE FUNCTION ledger_seq_before(
    p_organization_id uuid,
    p_moment timestamptz
) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_low bigint := 0;
    v_high bigint;
    v_middle bigint;
BEGIN
    SELECT a.last_seq INTO v_high FROM accounts AS a WHERE a.organization_id = p_organization_id;
    WHILE v_low < v_high LOOP
        v_middle := (v_low + v_high + 1) / 2;
        IF (
            SELECT t.created_at
            FROM credit_transactions AS t
            WHERE t.organization_id = p_organization_id AND t.seq = v_middle
        ) < p_moment THEN
            v_low := v_middle;
        ELSE
            v_high := v_middle - 1;
        END IF;
    END LOOP;
    RETURN v_low;
END
$$;

-- The balance of an organization at a moment: after its last row until then. Moments are whole microseconds.
CREATE OR REPLACE FUNCTION ledger_balance_at(
    p_organization_id uuid,
    p_moment timestamptz
) RETURNS numeric LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (
            SELECT t.balance_after
            FROM credit_transactions AS t
            WHERE
                t.organization_id = p_organization_id
                AND t.seq = ledger_seq_before(p_organization_id, p_moment + interval '1 microsecond')
        ),
        0
    )
$$;

-- The first row whose consumption goes beyond a point, located by bisection along seq, since consumed_after
-- never decreases.
CREATE OR REPLACE FUNCTION ledger_seq_beyond(
    p_organization_id uuid,
    p_consumed numeric
) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_low bigint := 1;
    v_high bigint;
    v_middle bigint;
BEGIN
    SELECT a.last_seq + 1 INTO v_high FROM accounts AS a WHERE a.organization_id = p_organization_id;
    WHILE v_low < v_high LOOP
        v_middle := (v_low + v_high) / 2;
        IF (
            SELECT t.consumed_after
            FROM credit_transactions AS t
            WHERE t.organization_id = p_organization_id AND t.seq = v_middle
        ) > p_consumed THEN
            v_high := v_middle;
        ELSE
            v_low := v_middle + 1;
        END IF;
    END LOOP;
    RETURN v_low;
END
$$;

-- The start of the segment of a grant that contains the consumption of a row; NULL where it is before them all.
CREATE OR REPLACE FUNCTION ledger_segment_of(
    p_organization_id uuid,
    p_grant_id uuid,
    p_seq bigint
) RETURNS numeric LANGUAGE sql STABLE AS $$
    SELECT s.lower
    FROM burn_segments AS s
    WHERE
        s.organization_id = p_organization_id
        AND s.grant_id = p_grant_id
        AND s.lower <= coalesce(
            (
                SELECT t.consumed_after
                FROM credit_transactions AS t
                WHERE t.organization_id = p_organization_id AND t.seq = p_seq
            ),
            0
        )
    ORDER BY s.lower DESC
    LIMIT 1
$$;

-- The debits that a grant paid for, oldest first, after a row, up to a number. Reads the grant's segments in their
-- order and of each the rows that it covers, and stops at that number.
CREATE OR REPLACE FUNCTION ledger_uses(
    p_organization_id uuid,
    p_grant_id uuid,
    p_after bigint,
    p_uses_max integer
) RETURNS TABLE (
    amount numeric,
    transaction_id uuid,
    seq bigint,
    type text,
    created_at timestamptz
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off AS $$
DECLARE
    v_from numeric := coalesce(ledger_segment_of(p_organization_id, p_grant_id, p_after), 0);
    v_left bigint := p_uses_max;
    v_count bigint;
    v_first bigint;
    v_last bigint;
    v_segment record;
BEGIN
    FOR v_segment IN
        SELECT
            s.lower,
            coalesce(s.upper, a.consumed) AS upper
        FROM burn_segments AS s
        INNER JOIN accounts AS a ON s.organization_id = a.organization_id
        WHERE
            s.organization_id = p_organization_id
            AND s.grant_id = p_grant_id
            AND s.lower >= v_from
        ORDER BY s.lower
    LOOP
        v_first := greatest(p_after + 1, ledger_seq_beyond(p_organization_id, v_segment.lower));
        v_last := ledger_seq_beyond(p_organization_id, v_segment.upper - 0.000000001);
        RETURN QUERY
        SELECT
            least(t.consumed_after, v_segment.upper)
            - greatest(coalesce(b.consumed_after, 0), v_segment.lower),
            t.id,
            t.seq,
            t.type,
            t.created_at
        FROM credit_transactions AS t
        LEFT JOIN LATERAL (
            SELECT c.consumed_after
            FROM credit_transactions AS c
            WHERE c.organization_id = p_organization_id AND c.seq = t.seq - 1
        ) AS b ON TRUE
        WHERE
            t.organization_id = p_organization_id
            AND t.seq BETWEEN v_first AND v_last
            AND t.consumed_after > coalesce(b.consumed_after, 0)
        ORDER BY t.seq
        LIMIT v_left;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        v_left := v_left - v_count;
        EXIT WHEN v_left <= 0;
    END LOOP;
END
$$;

-- The balances of the system accounts: the other side of every transfer.
CREATE OR REPLACE VIEW system_accounts AS
SELECT
    t.counterparty AS account,
    -sum(t.amount) AS balance,
    count(*) AS transactions
FROM credit_transactions AS t
GROUP BY t.counterparty;

-- The balance of every account of the ledger. Their sum must be zero.
CREATE OR REPLACE VIEW trial_balance AS
SELECT
    'organizations' AS account,
    coalesce(sum(a.balance), 0) AS balance
FROM accounts AS a
UNION ALL
SELECT
    s.account,
    s.balance
FROM system_accounts AS s;
