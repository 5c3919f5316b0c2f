-- Functions that processes of the last release call until their restart, and this release does not. Drop them at the top
-- of the files that they were in (grants.sql, messages.sql) in the release after 0.2.0, and this file with them.

-- The open grants of an organization that expire after a moment or never, in burn order.
CREATE OR REPLACE FUNCTION ledger_burn_order(
    p_organization_id uuid,
    p_expiring_after timestamptz
) RETURNS SETOF credit_grants LANGUAGE sql STABLE AS $$
    SELECT g.*
    FROM credit_grants AS g
    WHERE
        g.organization_id = p_organization_id
        AND NOT g.spent
        AND (g.expires_at > p_expiring_after OR g.expires_at IS NULL)
    ORDER BY g.priority, g.expires_at, (NOT g.promotional), g.seq
$$;

-- Announces grants that expire soon, each once; returns their number.
CREATE OR REPLACE FUNCTION ledger_announce_expiring(
    p_now timestamptz,
    p_within interval,
    p_grants_max integer
) RETURNS bigint LANGUAGE sql AS $$
    WITH announced AS (
        UPDATE credit_grants AS g
        SET expiry_told_at = p_now
        FROM (
            SELECT
                c.organization_id,
                c.id
            FROM credit_grants AS c
            WHERE
                NOT c.spent
                AND c.expires_at > p_now
                AND c.expires_at <= p_now + p_within
                AND c.expiry_told_at IS NULL
            ORDER BY c.expires_at
            LIMIT p_grants_max
        ) AS soon
        WHERE
            g.organization_id = soon.organization_id
            AND g.id = soon.id
            AND g.expiry_told_at IS NULL
        RETURNING
            g.organization_id,
            g.id,
            g.remaining,
            g.expires_at
    )

    SELECT count(*)
    FROM announced AS a
    CROSS JOIN LATERAL announce(
        a.organization_id,
        md5('credits.expiring' || a.id)::uuid,
        'credits.expiring',
        jsonb_build_object('grantId', a.id, 'amount', a.remaining, 'expiresAt', a.expires_at),
        p_now
    )
$$;

-- The same by its name in 0.1.0.
CREATE OR REPLACE FUNCTION ledger_tell_expiring(
    p_now timestamptz,
    p_within interval,
    p_grants_max integer
) RETURNS bigint LANGUAGE sql AS $$
    SELECT ledger_announce_expiring(p_now, p_within, p_grants_max)
$$;
