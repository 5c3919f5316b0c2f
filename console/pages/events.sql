-- name: list_events
-- The events that match among the newest $9 after a cursor: no page reads more, whatever it looks for.
SELECT
    s.id,
    s.type,
    s.state,
    s.attempts,
    s.reason,
    s.error_class,
    s.discard_reason,
    s.received_at,
    s.organization_id,
    CASE WHEN octet_length(s.payload) <= $11 THEN s.payload ELSE '' END AS payload,
    o.slug
FROM (
    SELECT *
    FROM stripe_events AS e
    WHERE
        ($3::timestamptz IS NULL OR e.received_at >= $3)
        AND ($7::timestamptz IS NULL OR (e.received_at, e.id) < ($7, $8::text))
    ORDER BY e.received_at DESC, e.id DESC
    LIMIT $9
) AS s
LEFT JOIN organizations AS o ON s.organization_id = o.id
WHERE
    ($1::text IS NULL OR s.state = $1)
    AND ($2::text IS NULL OR s.type = $2)
    AND ($4::uuid IS NULL OR s.organization_id = $4 OR position($5::text IN s.payload) > 0)
    AND ($6::text IS NULL OR position($6 IN s.payload) > 0)
ORDER BY s.received_at DESC, s.id DESC
LIMIT $10;

-- name: list_in_rare_state
-- The same among the events in a rare state, from its partial index.
SELECT
    s.id,
    s.type,
    s.state,
    s.attempts,
    s.reason,
    s.error_class,
    s.discard_reason,
    s.received_at,
    s.organization_id,
    CASE WHEN octet_length(s.payload) <= $11 THEN s.payload ELSE '' END AS payload,
    o.slug
FROM (
    SELECT *
    FROM stripe_events AS e
    WHERE
        e.state = $1
        AND e.state IN ('dead', 'discarded', 'quarantined', 'retrying')
        AND ($3::timestamptz IS NULL OR e.received_at >= $3)
        AND ($7::timestamptz IS NULL OR (e.received_at, e.id) < ($7, $8::text))
    ORDER BY e.received_at DESC, e.id DESC
    LIMIT $9
) AS s
LEFT JOIN organizations AS o ON s.organization_id = o.id
WHERE
    ($2::text IS NULL OR s.type = $2)
    AND ($4::uuid IS NULL OR s.organization_id = $4 OR position($5::text IN s.payload) > 0)
    AND ($6::text IS NULL OR position($6 IN s.payload) > 0)
ORDER BY s.received_at DESC, s.id DESC
LIMIT $10;

-- name: scan_end
-- The last event that a page looks at, where there are more after it.
SELECT
    received_at,
    id
FROM stripe_events
WHERE
    ($1::timestamptz IS NULL OR received_at >= $1)
    AND ($2::timestamptz IS NULL OR (received_at, id) < ($2, $3::text))
ORDER BY received_at DESC, id DESC
OFFSET $4 LIMIT 1;

-- name: scan_end_in_rare_state
-- The same for a rare state.
SELECT
    received_at,
    id
FROM stripe_events
WHERE
    state = $5
    AND state IN ('dead', 'discarded', 'quarantined', 'retrying')
    AND ($1::timestamptz IS NULL OR received_at >= $1)
    AND ($2::timestamptz IS NULL OR (received_at, id) < ($2, $3::text))
ORDER BY received_at DESC, id DESC
OFFSET $4 LIMIT 1;

-- name: event
-- Every stored event with this id, one for each account and mode. Of a long payload, its beginning.
SELECT
    e.account,
    e.livemode,
    e.id,
    e.type,
    e.api_version,
    e.state,
    e.attempts,
    e.lane,
    e.leases_lost,
    e.reason,
    e.error_class,
    left(e.error_trace, $3) AS error_trace,
    e.received_at,
    e.available_at,
    e.lease_token IS NOT NULL AND e.available_at > now() AS is_leased,
    e.settled_at,
    e.stripe_created_at,
    e.organization_id,
    e.request_id,
    e.payload_forgotten_at,
    e.discard_reason,
    octet_length(e.payload) AS payload_length,
    CASE WHEN octet_length(e.payload) <= $2 THEN e.payload ELSE left(e.payload, $3) END AS payload,
    o.slug
FROM stripe_events AS e
LEFT JOIN organizations AS o ON e.organization_id = o.id
WHERE e.id = $1
ORDER BY e.account, e.livemode
LIMIT $4;

-- name: replays
-- The latest replays that named an event.
SELECT
    id,
    started_at,
    actor,
    reason,
    state
FROM (
    SELECT *
    FROM replay_batches
    ORDER BY started_at DESC
    LIMIT $2
) AS latest
WHERE $1 = any(latest.ids)
ORDER BY started_at DESC;
