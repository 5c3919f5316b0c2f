-- Expiry of grants and holds: what is due, and the postings that it causes.

DROP FUNCTION IF EXISTS ledger_note_expired(accounts, timestamptz);

-- When the next grant or hold of an organization expires; NULL: never. Each is read by its index.
CREATE OR REPLACE FUNCTION ledger_next_due(p_organization_id uuid) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off AS $$
DECLARE
    v_grant timestamptz;
    v_hold timestamptz;
BEGIN
    SELECT g.expires_at INTO v_grant
    FROM credit_grants AS g
    WHERE
        g.organization_id = p_organization_id
        AND NOT g.spent
        AND g.expires_at IS NOT NULL
    ORDER BY g.expires_at
    LIMIT 1;
    SELECT h.expires_at INTO v_hold
    FROM holds AS h
    WHERE h.organization_id = p_organization_id AND h.status = 'active'
    ORDER BY h.expires_at
    LIMIT 1;
    RETURN least(v_grant, v_hold);
END
$$;

-- Expires what is due, before any posting: moves the grants that have expired since the last call from the
-- account's balance to `expired`, and the holds out of `held`. It reads each once, however much later its
-- expiration is posted or it is closed; `p_holds_max` holds are closed now.
--
-- The balance of the returned account excludes everything that has expired.
CREATE OR REPLACE FUNCTION ledger_expire(
    p_account accounts,
    p_now timestamptz,
    p_holds_max integer
) RETURNS accounts LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    v_expired numeric;
    v_released numeric;
BEGIN
    SELECT coalesce(sum(g.remaining), 0) INTO v_expired
    FROM credit_grants AS g
    WHERE
        g.organization_id = p_account.organization_id
        AND NOT g.spent
        AND g.expires_at > p_account.expired_through
        AND g.expires_at <= p_now;
    SELECT coalesce(sum(ledger_hold_rest(h)), 0) INTO v_released
    FROM holds AS h
    WHERE
        h.organization_id = p_account.organization_id
        AND h.status = 'active'
        AND h.expires_at > p_account.expired_through
        AND h.expires_at <= p_now;
    IF p_account.budgets > 0 AND v_released > 0 THEN
        PERFORM ledger_expire_budgets(p_account.organization_id, p_account.expired_through, p_now);
    END IF;
    p_account.expired := p_account.expired + v_expired;
    p_account.held := p_account.held - v_released;
    p_account.expired_through := p_now;
    p_account.balance := p_account.balance - p_account.expired;
    PERFORM ledger_close_expired_holds(p_account.organization_id, p_now, p_holds_max);
    RETURN p_account;
END
$$;

-- Closes expired holds, up to a number, the earliest first. After ledger_expire, `held` of the account includes none
-- of them.
CREATE OR REPLACE FUNCTION ledger_close_expired_holds(
    p_organization_id uuid,
    p_now timestamptz,
    p_holds_max integer
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off AS $$
DECLARE
    v_ids uuid [];
BEGIN
    v_ids := array(
        SELECT h.id
        FROM holds AS h
        WHERE h.organization_id = p_organization_id AND h.status = 'active' AND h.expires_at <= p_now
        ORDER BY h.expires_at
        LIMIT p_holds_max
    );
    UPDATE holds AS h
    SET status = 'expired', closed_at = p_now
    WHERE h.organization_id = p_organization_id AND h.id = any(v_ids);
END
$$;

-- A UUID version 7 (RFC 9562), as processes create them: the milliseconds of a moment, a counter within the
-- moment, and the random end of the UUID that is passed in. Lists are sorted by id, newest first.
CREATE OR REPLACE FUNCTION ledger_id_at(
    p_moment timestamptz,
    p_place integer,
    p_random uuid
) RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT encode(
        substring(int8send(floor(extract(EPOCH FROM p_moment) * 1000)::bigint) FROM 3)
        || substring(int4send(28672 + least(p_place, 4095)) FROM 3)  -- version 7, then 12 bits
        || substring(uuid_send(p_random) FROM 9),
        'hex'
    )::uuid
$$;

-- The postings of expired grants, up to a number: each takes the rest of its grant.
CREATE OR REPLACE FUNCTION ledger_expirations(
    p_organization_id uuid,
    p_now timestamptz,
    p_grants_max integer
) RETURNS ledger_posting [] LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off AS $$
DECLARE
    v_grant record;
    v_posting ledger_posting;
    v_postings ledger_posting [] := '{}';
BEGIN
    FOR v_grant IN
        SELECT
            e.id,
            e.expires_at
        FROM (
            SELECT
                g.id,
                g.expires_at,
                g.seq
            FROM credit_grants AS g
            WHERE g.organization_id = p_organization_id AND NOT g.spent AND g.expires_at <= p_now
            ORDER BY g.expires_at
            LIMIT p_grants_max
        ) AS e
        ORDER BY e.expires_at, e.seq
    LOOP
        v_posting.organization_id := p_organization_id;
        v_posting.id := ledger_id_at(p_now, cardinality(v_postings), gen_random_uuid());
        v_posting.type := 'expiration';
        v_posting.counterparty := 'breakage';
        v_posting.key := 'expiration:' || v_grant.id;
        v_posting.digest := sha256(convert_to(v_posting.key, 'UTF8'));
        v_posting.effective_at := v_grant.expires_at;
        v_posting.grant_id := v_grant.id;
        v_postings := array_append(v_postings, v_posting);
    END LOOP;
    RETURN v_postings;
END
$$;
