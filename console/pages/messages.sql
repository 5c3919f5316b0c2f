-- name: list_messages
-- The messages that match among the newest $7 after a cursor, a row for each endpoint.
SELECT
    m.id,
    m.endpoint_id,
    m.organization_id,
    m.type,
    m.state,
    m.attempts,
    m.last_status,
    m.reason,
    m.created_at,
    e.url,
    o.slug
FROM (
    SELECT *
    FROM outbound_messages
    WHERE $4::timestamptz IS NULL OR (created_at, id, endpoint_id) < ($4, $5::uuid, $6::uuid)
    ORDER BY created_at DESC, id DESC
    LIMIT $7
) AS m
INNER JOIN webhook_endpoints AS e ON m.endpoint_id = e.id
INNER JOIN organizations AS o ON m.organization_id = o.id
WHERE
    ($1::text IS NULL OR m.state = $1)
    AND ($2::text IS NULL OR m.type = $2)
    AND ($3::uuid IS NULL OR m.organization_id = $3)
ORDER BY m.created_at DESC, m.id DESC, m.endpoint_id DESC
LIMIT $8;

-- name: list_in_open_state
-- The same among the pending or the dead messages, from their partial index.
SELECT
    m.id,
    m.endpoint_id,
    m.organization_id,
    m.type,
    m.state,
    m.attempts,
    m.last_status,
    m.reason,
    m.created_at,
    e.url,
    o.slug
FROM (
    SELECT *
    FROM outbound_messages
    WHERE
        state = $1
        AND state IN ('pending', 'dead')
        AND ($4::timestamptz IS NULL OR (created_at, id, endpoint_id) < ($4, $5::uuid, $6::uuid))
    ORDER BY created_at DESC
    LIMIT $7
) AS m
INNER JOIN webhook_endpoints AS e ON m.endpoint_id = e.id
INNER JOIN organizations AS o ON m.organization_id = o.id
WHERE
    ($2::text IS NULL OR m.type = $2)
    AND ($3::uuid IS NULL OR m.organization_id = $3)
ORDER BY m.created_at DESC, m.id DESC, m.endpoint_id DESC
LIMIT $8;

-- name: message
-- Every column of a message, a row for each endpoint. Of a long payload, its beginning.
SELECT
    m.id,
    m.endpoint_id,
    m.organization_id,
    m.type,
    m.state,
    m.attempts,
    m.last_status,
    m.reason,
    m.discard_reason,
    m.created_at,
    m.replayed_at,
    m.available_at,
    m.settled_at,
    octet_length(m.payload) AS payload_length,
    CASE WHEN octet_length(m.payload) <= $2 THEN m.payload ELSE left(m.payload, $3) END AS payload,
    e.url,
    e.disabled_at,
    o.slug
FROM outbound_messages AS m
INNER JOIN webhook_endpoints AS e ON m.endpoint_id = e.id
INNER JOIN organizations AS o ON m.organization_id = o.id
WHERE m.id = $1
ORDER BY m.endpoint_id
LIMIT $4;

-- name: endpoints
-- The endpoints, the newest first, each with its pending messages: up to $1 are counted.
SELECT
    e.id,
    e.url,
    e.types,
    e.description,
    e.created_at,
    e.disabled_at,
    e.disabled_reason,
    p.messages AS pending
FROM webhook_endpoints AS e
CROSS JOIN LATERAL (
    SELECT count(*) AS messages
    FROM (
        SELECT m.id
        FROM outbound_messages AS m
        WHERE m.endpoint_id = e.id AND m.state = 'pending'
        LIMIT $1
    ) AS counted
) AS p
ORDER BY e.created_at DESC, e.id
LIMIT $2;
