-- name: select_deliveries
-- A chunk of the messages in a state, oldest first, after a place: state ($1), type ($2), endpoint ($3) and
-- organization ($10), NULL for any, created until $4, after the row $5, $6, $7. `$9`: only what can be sent again now.
-- Leased messages are being sent already, disabled endpoints receive nothing, and cleared bodies cannot be sent again.
SELECT
    m.id,
    m.endpoint_id,
    m.created_at
FROM outbound_messages AS m
INNER JOIN webhook_endpoints AS e ON m.endpoint_id = e.id
WHERE
    m.state = $1
    AND ($2::text IS NULL OR m.type = $2)
    AND ($3::uuid IS NULL OR m.endpoint_id = $3)
    AND ($10::uuid IS NULL OR m.organization_id = $10)
    AND m.created_at <= $4
    AND (m.created_at, m.id, m.endpoint_id) > ($5, $6, $7)
    AND (
        NOT $9::boolean
        OR ((m.lease_token IS NULL OR m.available_at <= now()) AND m.payload <> '{}' AND e.disabled_at IS NULL)
    )
ORDER BY m.created_at, m.id, m.endpoint_id
LIMIT $8;

-- name: select_open_deliveries
-- The same for an open state, from its partial index.
SELECT
    m.id,
    m.endpoint_id,
    m.created_at
FROM outbound_messages AS m
INNER JOIN webhook_endpoints AS e ON m.endpoint_id = e.id
WHERE
    m.state = $1
    AND m.state IN ('pending', 'dead')
    AND ($2::text IS NULL OR m.type = $2)
    AND ($3::uuid IS NULL OR m.endpoint_id = $3)
    AND ($10::uuid IS NULL OR m.organization_id = $10)
    AND m.created_at <= $4
    AND (m.created_at, m.id, m.endpoint_id) > ($5, $6, $7)
    AND (
        NOT $9::boolean
        OR ((m.lease_token IS NULL OR m.available_at <= now()) AND m.payload <> '{}' AND e.disabled_at IS NULL)
    )
ORDER BY m.created_at, m.id, m.endpoint_id
LIMIT $8;

-- name: named_deliveries
-- The messages with these ids that can be sent again now, a row for each endpoint: state ($2), type ($3), since ($4),
-- endpoint ($5) and organization ($7), NULL for any.
SELECT
    m.id,
    m.endpoint_id
FROM outbound_messages AS m
INNER JOIN webhook_endpoints AS e ON m.endpoint_id = e.id
WHERE
    m.id = any($1::uuid [])
    AND ($2::text IS NULL OR m.state = $2)
    AND ($3::text IS NULL OR m.type = $3)
    AND ($4::timestamptz IS NULL OR m.created_at >= $4)
    AND ($5::uuid IS NULL OR m.endpoint_id = $5)
    AND ($7::uuid IS NULL OR m.organization_id = $7)
    AND (m.lease_token IS NULL OR m.available_at <= now())
    AND m.payload <> '{}'
    AND e.disabled_at IS NULL
ORDER BY m.id, m.endpoint_id
LIMIT $6;

-- name: unknown_messages
-- Which of these ids no message has.
SELECT n.id
FROM unnest($1::uuid []) WITH ORDINALITY AS n (id, place)
WHERE NOT EXISTS (SELECT FROM outbound_messages AS m WHERE m.id = n.id)
ORDER BY n.place
LIMIT 1;

-- name: endpoint_disabled
-- Whether an endpoint is disabled; no row: there is none.
SELECT disabled_at IS NOT NULL AS disabled
FROM webhook_endpoints
WHERE id = $1;

-- name: make_due
-- Make messages due now and restart their three days of attempts. Returns every row that exists: whether it was made
-- due, and whether its endpoint is disabled. A leased message, one whose body is cleared, or
-- one in another state than $3, does not change.
WITH chosen AS (
    SELECT
        m.id,
        m.endpoint_id,
        m.state,
        (m.lease_token IS NULL OR m.available_at <= now()) AND m.payload <> '{}' AS is_free,
        e.disabled_at IS NOT NULL AS is_disabled
    FROM unnest($1::uuid [], $2::uuid []) AS n (id, endpoint_id)
    INNER JOIN outbound_messages AS m ON n.id = m.id AND n.endpoint_id = m.endpoint_id
    INNER JOIN webhook_endpoints AS e ON m.endpoint_id = e.id
    ORDER BY m.id, m.endpoint_id
    FOR UPDATE OF m
),

due AS (
    UPDATE outbound_messages AS m
    SET
        state = 'pending',
        attempts = 0,
        available_at = now(),
        replayed_at = now(),
        settled_at = NULL,
        reason = NULL,
        discard_reason = NULL
    FROM chosen AS c
    WHERE
        m.id = c.id
        AND m.endpoint_id = c.endpoint_id
        AND c.is_free
        AND NOT c.is_disabled
        AND ($3::text IS NULL OR c.state = $3)
    RETURNING m.id, m.endpoint_id
)

SELECT
    c.id,
    c.endpoint_id,
    c.is_disabled,
    d.id IS NOT NULL AS is_due
FROM chosen AS c
LEFT JOIN due AS d ON c.id = d.id AND c.endpoint_id = d.endpoint_id
ORDER BY c.id, c.endpoint_id;

-- name: discard_deliveries
-- Discard messages to endpoints that have not received them, by an operator's decision. The error stays. Locks them in
-- the order of their ids.
UPDATE outbound_messages AS m
SET
    state = 'discarded',
    reason = coalesce(m.reason, $3),
    discard_reason = $3,
    lease_token = NULL,
    settled_at = now()
FROM (
    SELECT
        s.id,
        s.endpoint_id
    FROM unnest($1::uuid [], $2::uuid []) AS n (id, endpoint_id)
    INNER JOIN outbound_messages AS s ON n.id = s.id AND n.endpoint_id = s.endpoint_id
    WHERE s.state = $4 AND s.state IN ('pending', 'dead')
    ORDER BY s.id, s.endpoint_id
    FOR UPDATE OF s
) AS chosen
WHERE m.id = chosen.id AND m.endpoint_id = chosen.endpoint_id
RETURNING m.id, m.endpoint_id;
