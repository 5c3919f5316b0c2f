-- name: list_events
-- A page of events, newest first, after a cursor (received_at and id of the last row).
SELECT
    id,
    type,
    state,
    attempts,
    reason,
    error_class,
    received_at,
    organization_id
FROM stripe_events
WHERE
    ($1::text IS NULL OR state = $1)
    AND ($2::text IS NULL OR type = $2)
    AND ($3::timestamptz IS NULL OR received_at >= $3)
    AND ($4::timestamptz IS NULL OR (received_at, id) < ($4, $5::text))
ORDER BY received_at DESC, id DESC
LIMIT $6;

-- name: list_in_rare_state
-- A page of the events in a rare state, from its partial index, however many other events there are.
SELECT
    id,
    type,
    state,
    attempts,
    reason,
    error_class,
    received_at,
    organization_id
FROM stripe_events
WHERE
    state = $1
    AND state IN ('dead', 'discarded', 'quarantined', 'retrying')
    AND ($2::text IS NULL OR type = $2)
    AND ($3::timestamptz IS NULL OR received_at >= $3)
    AND ($4::timestamptz IS NULL OR (received_at, id) < ($4, $5::text))
ORDER BY received_at DESC, id DESC
LIMIT $6;

-- name: show_event
-- Every column of an event.
SELECT
    account,
    livemode,
    id,
    type,
    api_version,
    state,
    attempts,
    lane,
    leases_lost,
    reason,
    error_class,
    error_trace,
    received_at,
    available_at,
    settled_at,
    stripe_created_at,
    organization_id,
    request_id,
    payload_forgotten_at,
    payload
FROM stripe_events
WHERE id = $1
ORDER BY account, livemode;

-- name: select_for_replay
-- The ids that match a replay's filters, oldest first.
SELECT id
FROM stripe_events
WHERE
    state = $1
    AND ($2::text IS NULL OR type = $2)
    AND ($3::timestamptz IS NULL OR received_at >= $3)
ORDER BY received_at, id
LIMIT $4;

-- name: select_rare_for_replay
-- The same for a rare state, from its partial index.
SELECT id
FROM stripe_events
WHERE
    state = $1
    AND state IN ('dead', 'discarded', 'quarantined', 'retrying')
    AND ($2::text IS NULL OR type = $2)
    AND ($3::timestamptz IS NULL OR received_at >= $3)
ORDER BY received_at, id
LIMIT $4;

-- name: discard
-- Discard an event permanently, by an operator's decision. An applied event cannot be discarded.
UPDATE stripe_events
SET
    state = 'discarded',
    reason = $2,
    lease_token = NULL,
    settled_at = now()
WHERE id = $1 AND state IN ('dead', 'retrying', 'received', 'quarantined', 'ignored')
RETURNING id;
