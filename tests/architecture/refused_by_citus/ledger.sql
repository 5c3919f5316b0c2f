-- name: are_known
-- Which of these keys have been posted, in the order asked: a look-up for each, not a join.
SELECT
    (
        SELECT t.seq
        FROM credit_transactions AS t
        WHERE t.organization_id = k.organization_id AND t.idempotency_key = k.key
    ) AS seq
FROM unnest($1::uuid [], $2::text []) WITH ORDINALITY AS k (organization_id, key, place)
ORDER BY k.place;

-- name: balances
-- What organizations own, what of it is on hold, and how far they may go below zero. What is due by now
-- counts as expired, whether or not a posting has come by to say so.
SELECT
    a.organization_id,
    a.balance - due.expired AS balance,
    a.held - due.released AS held,
    a.overdraft_limit,
    a.last_seq
FROM accounts AS a
CROSS JOIN LATERAL (
    SELECT
        CASE
            WHEN a.next_due_at <= now()
                THEN (
                    SELECT coalesce(sum(g.remaining), 0)
                    FROM credit_grants AS g
                    WHERE
                        g.organization_id = a.organization_id
                        AND NOT g.spent
                        AND g.expires_at <= now()
                )
            ELSE 0
        END AS expired,
        CASE
            WHEN a.next_due_at <= now()
                THEN (
                    SELECT coalesce(sum(h.amount), 0)
                    FROM holds AS h
                    WHERE
                        h.organization_id = a.organization_id
                        AND h.status = 'active'
                        AND h.expires_at <= now()
                )
            ELSE 0
        END AS released
) AS due
WHERE a.organization_id = any($1::uuid []);

-- name: tell_expiring
-- The body of a function.
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

told AS (
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
FROM told AS t
CROSS JOIN LATERAL announce(
    t.organization_id,
    md5('credits.expiring' || t.id)::uuid,
    'credits.expiring',
    jsonb_build_object('grantId', t.id, 'amount', t.remaining, 'expiresAt', t.expires_at),
    p_now
);

-- name: uses
-- What a grant paid for, oldest first.
SELECT
    least(t.consumed_after, coalesce(s.upper, a.consumed))
    - greatest(coalesce(b.consumed_after, 0), s.lower) AS amount,
    t.id AS transaction_id,
    t.seq,
    t.type,
    t.created_at
FROM burn_segments AS s
INNER JOIN accounts AS a ON s.organization_id = a.organization_id
INNER JOIN credit_transactions AS t
    ON
        s.organization_id = t.organization_id
        AND t.seq BETWEEN ledger_seq_beyond($1, s.lower)
        AND ledger_seq_beyond($1, coalesce(s.upper, a.consumed) - 0.000000001)
LEFT JOIN credit_transactions AS b ON t.organization_id = b.organization_id AND b.seq = t.seq - 1
WHERE
    s.organization_id = $1
    AND s.grant_id = $2
    AND t.consumed_after > coalesce(b.consumed_after, 0)
ORDER BY t.seq
LIMIT $3;
