-- name: list_events
-- A page of events, newest first, after a cursor (received_at and id of the last row).
SELECT
    e.id,
    e.type,
    e.state,
    e.attempts,
    e.reason,
    e.error_class,
    e.discard_reason,
    e.received_at,
    e.organization_id,
    e.payload,
    o.slug
FROM stripe_events AS e
LEFT JOIN organizations AS o ON e.organization_id = o.id
WHERE
    ($1::text IS NULL OR e.state = $1)
    AND ($2::text IS NULL OR e.type = $2)
    AND ($3::timestamptz IS NULL OR e.received_at >= $3)
    AND ($4::timestamptz IS NULL OR (e.received_at, e.id) < ($4, $5::text))
    AND ($7::text IS NULL OR e.error_class = $7)
ORDER BY e.received_at DESC, e.id DESC
LIMIT $6;

-- name: list_in_rare_state
-- A page of the events in a rare state, from its partial index, however many other events there are.
SELECT
    e.id,
    e.type,
    e.state,
    e.attempts,
    e.reason,
    e.error_class,
    e.discard_reason,
    e.received_at,
    e.organization_id,
    e.payload,
    o.slug
FROM stripe_events AS e
LEFT JOIN organizations AS o ON e.organization_id = o.id
WHERE
    e.state = $1
    AND e.state IN ('dead', 'discarded', 'quarantined', 'retrying')
    AND ($2::text IS NULL OR e.type = $2)
    AND ($3::timestamptz IS NULL OR e.received_at >= $3)
    AND ($4::timestamptz IS NULL OR (e.received_at, e.id) < ($4, $5::text))
    AND ($7::text IS NULL OR e.error_class = $7)
ORDER BY e.received_at DESC, e.id DESC
LIMIT $6;

-- name: show_event
-- Every column of an event.
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
    e.error_trace,
    e.received_at,
    e.available_at,
    e.settled_at,
    e.stripe_created_at,
    e.organization_id,
    e.request_id,
    e.payload_forgotten_at,
    e.discard_reason,
    e.payload,
    o.slug
FROM stripe_events AS e
LEFT JOIN organizations AS o ON e.organization_id = o.id
WHERE e.id = $1
ORDER BY e.account, e.livemode;

-- name: select_for_replay
-- A chunk of the events that match a filter and arrived until $5, oldest first, after a place.
SELECT
    id,
    received_at
FROM stripe_events
WHERE
    state = $1
    AND ($2::text IS NULL OR type = $2)
    AND ($3::timestamptz IS NULL OR received_at >= $3)
    AND ($4::text IS NULL OR error_class = $4)
    AND received_at <= $5
    AND ($6::timestamptz IS NULL OR (received_at, id) > ($6, $7::text))
ORDER BY received_at, id
LIMIT $8;

-- name: select_rare_for_replay
-- The same for a rare state, from its partial index.
SELECT
    id,
    received_at
FROM stripe_events
WHERE
    state = $1
    AND state IN ('dead', 'discarded', 'quarantined', 'retrying')
    AND ($2::text IS NULL OR type = $2)
    AND ($3::timestamptz IS NULL OR received_at >= $3)
    AND ($4::text IS NULL OR error_class = $4)
    AND received_at <= $5
    AND ($6::timestamptz IS NULL OR (received_at, id) > ($6, $7::text))
ORDER BY received_at, id
LIMIT $8;

-- name: still_dead
-- Which of these ids are dead letters of a type with an error class, oldest first.
SELECT id
FROM stripe_events
WHERE id = any($1::text []) AND state = 'dead' AND type = $2 AND error_class = $3
ORDER BY received_at, id;

-- name: known
-- Which of these ids are events.
SELECT DISTINCT id
FROM stripe_events
WHERE id = any($1::text []);

-- name: stored
-- Events of mode $2, and of this account or one in $3, as Stripe sent them, to read their objects again.
SELECT
    account,
    livemode,
    id,
    type,
    api_version,
    stripe_created_at,
    payload,
    payload_forgotten_at
FROM stripe_events
WHERE
    id = any($1::text [])
    AND livemode = $2
    AND (account = '' OR account = any($3::text []))
ORDER BY received_at, id;

-- name: discard
-- Discard events permanently, by an operator's decision. An applied event cannot be discarded. The error stays. Locks
-- them in the order of their ids; one that is in another state than $3 by then, or has another error class than $4,
-- does not change.
UPDATE stripe_events AS e
SET
    state = 'discarded',
    reason = coalesce(e.reason, $2),
    discard_reason = $2,
    lease_token = NULL,
    waits_for = NULL,
    settled_at = now()
FROM (
    SELECT
        s.account,
        s.livemode,
        s.id
    FROM stripe_events AS s
    WHERE
        s.id = any($1::text [])
        AND s.state IN ('dead', 'retrying', 'received', 'quarantined', 'ignored')
        AND ($3::text IS NULL OR s.state = $3)
        AND ($4::text IS NULL OR s.error_class = $4)
    ORDER BY s.account, s.livemode, s.id
    FOR UPDATE
) AS chosen
WHERE e.account = chosen.account AND e.livemode = chosen.livemode AND e.id = chosen.id
RETURNING e.id;

-- name: causes
-- The dead letters by type and error class, each group found with one look-up, the first groups only. A group counts
-- up to $1 events.
WITH RECURSIVE groups AS (
    (
        SELECT
            type,
            error_class
        FROM stripe_events
        WHERE state = 'dead'
        ORDER BY type, error_class
        LIMIT 1
    )
    UNION ALL
    SELECT
        n.type,
        n.error_class
    FROM groups AS g
    CROSS JOIN LATERAL (
        SELECT
            e.type,
            e.error_class
        FROM stripe_events AS e
        WHERE e.state = 'dead' AND (e.type, e.error_class) > (g.type, g.error_class)
        ORDER BY e.type, e.error_class
        LIMIT 1
    ) AS n
)

SELECT
    g.type,
    g.error_class,
    c.events,
    f.received_at AS first_at,
    l.received_at AS last_at,
    l.id AS last_id,
    l.reason AS last_error
FROM (SELECT * FROM groups LIMIT $2) AS g
CROSS JOIN LATERAL (
    SELECT count(*) AS events
    FROM (
        SELECT e.id
        FROM stripe_events AS e
        WHERE e.state = 'dead' AND e.type = g.type AND e.error_class = g.error_class
        ORDER BY e.type, e.error_class, e.received_at, e.id
        LIMIT $1
    ) AS counted
) AS c
CROSS JOIN LATERAL (
    SELECT e.received_at
    FROM stripe_events AS e
    WHERE e.state = 'dead' AND e.type = g.type AND e.error_class = g.error_class
    ORDER BY e.type, e.error_class, e.received_at, e.id
    LIMIT 1
) AS f
CROSS JOIN LATERAL (
    SELECT
        e.id,
        e.received_at,
        e.reason
    FROM stripe_events AS e
    WHERE e.state = 'dead' AND e.type = g.type AND e.error_class = g.error_class
    ORDER BY e.type DESC, e.error_class DESC, e.received_at DESC, e.id DESC
    LIMIT 1
) AS l;

-- name: paused_types
-- The types that are paused now, with the number of consecutive failures.
SELECT
    event_type,
    failures_in_row,
    paused_until
FROM event_breakers
WHERE paused_until > now()
ORDER BY event_type;
