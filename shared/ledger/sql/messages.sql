-- Messages about a balance that is low, recovered or depleted, and about grants that expire soon.

DROP FUNCTION IF EXISTS ledger_tell_expiring(timestamptz, interval, integer);

-- Announces once that a balance has fallen below its threshold or to zero, and once that it has recovered. Returns
-- whether the last such message was that it is low.
CREATE OR REPLACE FUNCTION ledger_announce_balance(
    p_account accounts,
    p_before numeric,
    p_cause uuid,
    p_now timestamptz
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_type text := CASE
        WHEN p_account.balance <= 0 AND p_before > 0 THEN 'credits.depleted'
        WHEN
            p_account.balance < p_account.low_below
            AND p_account.balance < p_before
            AND (p_before >= p_account.low_below OR NOT p_account.low_announced)
            THEN 'credits.low'
        WHEN
            p_account.balance >= p_account.low_below
            AND p_account.balance > p_before
            AND p_account.low_announced
            THEN 'credits.recovered'
    END;
BEGIN
    IF v_type IS NOT NULL THEN
        PERFORM announce(
            p_account.organization_id,
            md5(v_type || p_cause)::uuid,
            v_type,
            jsonb_build_object('balance', p_account.balance, 'threshold', p_account.low_below),
            p_now
        );
        RETURN v_type <> 'credits.recovered';
    END IF;
    -- Without a threshold, any credit ends it.
    RETURN p_account.low_announced AND (p_account.low_below IS NOT NULL OR p_account.balance <= 0);
END
$$;

-- Announces grants that expire soon, each once; returns their number. Locks no account.
CREATE OR REPLACE FUNCTION ledger_announce_expiring(
    p_now timestamptz,
    p_within interval,
    p_grants_max integer
) RETURNS bigint LANGUAGE sql AS $$
    WITH soon AS (
        SELECT
            g.organization_id,
            g.id
        FROM credit_grants AS g
        WHERE
            NOT g.spent
            AND g.expires_at > p_now
            AND g.expires_at <= p_now + p_within
            AND g.expiry_told_at IS NULL
        ORDER BY g.expires_at
        LIMIT p_grants_max
        FOR UPDATE SKIP LOCKED
    ),

    announced AS (
        UPDATE credit_grants AS g
        SET expiry_told_at = p_now
        FROM soon AS s
        WHERE g.organization_id = s.organization_id AND g.id = s.id
        RETURNING
            g.organization_id,
            g.id,
            g.remaining,
            g.expires_at
    )

    SELECT count(*)
    FROM announced AS t
    CROSS JOIN LATERAL announce(
        t.organization_id,
        md5('credits.expiring' || t.id)::uuid,
        'credits.expiring',
        jsonb_build_object('grantId', t.id, 'amount', t.remaining, 'expiresAt', t.expires_at),
        p_now
    )
$$;
