-- name: account
-- An organization's account and subscription, with the number of its ledger rows.
SELECT
    a.last_seq,
    a.closed_at,
    a.overdraft_limit,
    b.plan,
    b.status AS plan_status,
    b.current_period_end
FROM accounts AS a
LEFT JOIN LATERAL (
    SELECT
        u.plan,
        u.status,
        u.current_period_end
    FROM subscriptions AS u
    WHERE u.organization_id = $1
    ORDER BY (u.status IN ('active', 'trialing', 'past_due')) DESC, u.started_at DESC NULLS LAST, u.id
    LIMIT 1
) AS b ON TRUE
WHERE a.organization_id = $1;

-- name: seq_before
-- The last seq of an organization before a moment, by bisection: created_at never decreases along seq. 0: none.
WITH RECURSIVE bisection AS (
    SELECT
        0::bigint AS low,
        a.last_seq AS high
    FROM accounts AS a
    WHERE a.organization_id = $1
    UNION ALL
    SELECT
        CASE WHEN m.is_before THEN m.middle ELSE b.low END,
        CASE WHEN m.is_before THEN b.high ELSE m.middle - 1 END
    FROM bisection AS b
    CROSS JOIN LATERAL (
        SELECT
            (b.low + b.high + 1) / 2 AS middle,
            (
                SELECT t.created_at < $2
                FROM credit_transactions AS t
                WHERE t.organization_id = $1 AND t.seq = (b.low + b.high + 1) / 2
            ) AS is_before
    ) AS m
    WHERE b.low < b.high
)

SELECT low
FROM bisection
WHERE low = high;

-- name: balance_points
-- Rows at equal distances of seq, from an organization's last one down to a seq: a look-up for each, up to $3.
SELECT
    t.seq,
    t.created_at,
    t.balance_after
FROM accounts AS a
CROSS JOIN LATERAL generate_series(
    a.last_seq,
    $2::bigint,
    -greatest(ceil((a.last_seq - $2::bigint + 1)::numeric / $3::integer)::bigint, 1)
) AS n (seq)
CROSS JOIN LATERAL (
    SELECT
        c.seq,
        c.created_at,
        c.balance_after
    FROM credit_transactions AS c
    WHERE c.organization_id = $1 AND c.seq = n.seq
    OFFSET 0
) AS t
WHERE a.organization_id = $1
ORDER BY t.seq;

-- name: burn_order
-- The first grants of an organization to burn, in their order.
SELECT
    g.*,
    t.type
FROM (
    SELECT *
    FROM credit_grants
    WHERE organization_id = $1 AND NOT spent AND (expires_at > $2 OR expires_at IS NULL)
    ORDER BY priority, expires_at, (NOT promotional), seq
    LIMIT $3
) AS g
INNER JOIN credit_transactions AS t ON g.organization_id = t.organization_id AND g.seq = t.seq
ORDER BY g.priority, g.expires_at, (NOT g.promotional), g.seq;

-- name: history
-- Up to $5 rows of these types ($4; NULL: all) with a seq below $2 and above $3, newest first.
SELECT *
FROM credit_transactions
WHERE
    organization_id = $1
    AND seq < $2
    AND seq > $3
    AND ($4::text [] IS NULL OR type = any($4))
ORDER BY seq DESC
LIMIT $5;

-- name: history_without_usage
-- The same among the next $6 rows that are no usage: an index of their own skips the usage between them.
SELECT *
FROM (
    SELECT *
    FROM credit_transactions
    WHERE
        organization_id = $1
        AND seq < $2
        AND seq > $3
        AND type NOT IN ('usage', 'hold_capture')
    ORDER BY seq DESC
    LIMIT $6
) AS t
WHERE t.type = any($4::text [])
ORDER BY t.seq DESC
LIMIT $5;

-- name: last_without_usage
-- The last of the next $4 rows that are no usage; no row where there are fewer.
SELECT seq
FROM credit_transactions
WHERE
    organization_id = $1
    AND seq < $2
    AND seq > $3
    AND type NOT IN ('usage', 'hold_capture')
ORDER BY seq DESC
LIMIT 1 OFFSET $4 - 1;

-- name: messages
-- Up to $5 messages of an organization, newest first, after a cursor. The first comparison is for the index.
SELECT
    m.id,
    m.endpoint_id,
    m.type,
    m.state,
    m.attempts,
    m.last_status,
    m.reason,
    m.created_at,
    e.url
FROM outbound_messages AS m
INNER JOIN webhook_endpoints AS e ON m.endpoint_id = e.id
WHERE
    m.organization_id = $1
    AND m.created_at <= $2
    AND (m.created_at, m.id, m.endpoint_id) < ($2, $3, $4)
ORDER BY m.created_at DESC, m.id DESC, m.endpoint_id DESC
LIMIT $5;
