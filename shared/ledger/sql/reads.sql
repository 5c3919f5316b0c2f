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

-- The last row of an organization before a moment: its seq, the balance and the consumption after it, and its hash;
-- seq 0 where there is none.
CREATE OR REPLACE FUNCTION ledger_position(
    p_organization_id uuid,
    p_moment timestamptz,
    OUT seq bigint,
    OUT balance numeric,
    OUT consumed numeric,
    OUT hash bytea
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    v_seq bigint := ledger_seq_before(p_organization_id, p_moment);
BEGIN
    SELECT
        t.balance_after,
        t.consumed_after,
        t.hash
    INTO balance, consumed, hash
    FROM credit_transactions AS t
    WHERE t.organization_id = p_organization_id AND t.seq = v_seq;
    seq := v_seq;
    balance := coalesce(balance, 0);
    consumed := coalesce(consumed, 0);
END
$$;

-- The rows of an organization from a moment (NULL: its first row) until another (NULL: its last): the seq before them,
-- and the last one.
CREATE OR REPLACE FUNCTION ledger_range(
    p_organization_id uuid,
    p_from timestamptz,
    p_until timestamptz,
    OUT after bigint,
    OUT last bigint
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    after := 0;
    IF p_from IS NOT NULL THEN
        after := ledger_seq_before(p_organization_id, p_from);
    END IF;
    IF p_until IS NOT NULL THEN
        last := ledger_seq_before(p_organization_id, p_until);
    ELSE
        SELECT a.last_seq INTO last FROM accounts AS a WHERE a.organization_id = p_organization_id;
    END IF;
END
$$;

-- The balance of an organization at a moment: after its last row until then. Moments are whole microseconds.
CREATE OR REPLACE FUNCTION ledger_balance_at(
    p_organization_id uuid,
    p_moment timestamptz
) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (ledger_position(p_organization_id, p_moment + interval '1 microsecond')).balance;
END
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
) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
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
    );
END
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

-- The places, counted from 1, of those of these keys that have been posted: an index look-up for each, whatever the
-- statistics say.
CREATE OR REPLACE FUNCTION ledger_known_places(
    p_organizations uuid [],
    p_keys text []
) RETURNS SETOF bigint LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
BEGIN
    RETURN QUERY
    SELECT k.place
    FROM unnest(p_organizations, p_keys) WITH ORDINALITY AS k (organization_id, key, place)
    INNER JOIN credit_transactions AS t
        ON k.organization_id = t.organization_id AND k.key = t.idempotency_key
    WHERE t.organization_id = any(p_organizations);
END
$$;

-- When grants expire, each of its organization; an index look-up for each, likewise.
CREATE OR REPLACE FUNCTION ledger_expiries(
    p_organizations uuid [],
    p_grants uuid []
) RETURNS TABLE (id uuid, expires_at timestamptz) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
BEGIN
    RETURN QUERY
    SELECT
        g.id,
        g.expires_at
    FROM unnest(p_organizations, p_grants) AS k (organization_id, id)
    INNER JOIN credit_grants AS g ON k.organization_id = g.organization_id AND k.id = g.id
    WHERE g.organization_id = any(p_organizations);
END
$$;

-- The row that an organization posted under a key.
CREATE OR REPLACE FUNCTION ledger_seq_of(
    p_organization_id uuid,
    p_key text
) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT t.seq
        FROM credit_transactions AS t
        WHERE t.organization_id = p_organization_id AND t.idempotency_key = p_key
    );
END
$$;

-- The newest rows of an organization that are not older than a moment, up to a number: what this transaction posted,
-- and what others posted before it locked the account.
CREATE OR REPLACE FUNCTION ledger_rows_since(
    p_organization_id uuid,
    p_moment timestamptz,
    p_rows_max integer
) RETURNS SETOF credit_transactions LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
DECLARE
    v_seq bigint := ledger_seq_before(p_organization_id, p_moment);
BEGIN
    RETURN QUERY
    SELECT t.*
    FROM credit_transactions AS t
    WHERE t.organization_id = p_organization_id AND t.seq > v_seq
    ORDER BY t.seq DESC
    LIMIT p_rows_max;
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
