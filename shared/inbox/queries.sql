-- name: receive
-- Store a batch of verified events; return those that were not there before.
INSERT INTO stripe_events (
    account,
    livemode,
    id,
    type,
    api_version,
    stripe_created_at,
    payload,
    request_id,
    state,
    reason,
    settled_at
)
SELECT
    e.account,
    e.livemode,
    e.id,
    e.type,
    e.api_version,
    to_timestamp(e.created),
    e.payload,
    e.request_id,
    CASE WHEN e.quarantine IS NULL THEN 'received' ELSE 'quarantined' END,
    e.quarantine,
    CASE WHEN e.quarantine IS NULL THEN NULL ELSE now() END
FROM unnest(
    $1::text [],
    $2::boolean [],
    $3::text [],
    $4::text [],
    $5::text [],
    $6::bigint [],
    $7::text [],
    $8::text [],
    $9::text []
) AS e (account, livemode, id, type, api_version, created, payload, request_id, quarantine)
ON CONFLICT DO NOTHING
RETURNING account, livemode, id;

-- name: claim
-- Lease what is due, oldest first. What another worker holds is skipped, not waited for. The claim
-- need not survive a crash (a lost one is simply due again), so its commit does not wait for the disk.
WITH unflushed AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', TRUE) AS setting
),

due AS (
    SELECT
        e.account,
        e.livemode,
        e.id
    FROM stripe_events AS e
    CROSS JOIN unflushed
    WHERE
        e.state IN ('received', 'retrying')
        AND e.available_at <= now()
        AND NOT EXISTS (
            SELECT FROM event_breakers AS b
            WHERE b.event_type = e.type AND b.paused_until > now()
        )
    ORDER BY e.available_at
    LIMIT $1
    FOR UPDATE OF e SKIP LOCKED
)

UPDATE stripe_events AS e
SET
    lease_token = $2,
    available_at = now() + $3::interval,
    attempts = e.attempts + 1
FROM due
WHERE e.account = due.account AND e.livemode = due.livemode AND e.id = due.id
RETURNING
    e.account,
    e.livemode,
    e.id,
    e.type,
    e.api_version,
    e.payload,
    e.attempts,
    e.received_at,
    e.request_id;

-- name: claim_for_replay
-- Lease named events whatever their state, with their attempts counted from one again. What is
-- quarantined stays so unless it has become ours: the right mode, and an account that is listed now.
UPDATE stripe_events AS e
SET
    state = 'received',
    settled_at = NULL,
    lease_token = $2,
    available_at = now() + $3::interval,
    attempts = 1
FROM (
    SELECT
        s.account,
        s.livemode,
        s.id
    FROM stripe_events AS s
    WHERE
        s.id = any($1::text [])
        AND s.livemode = $4
        AND (s.account = '' OR s.account = any($5::text []))
    ORDER BY s.account, s.livemode, s.id
    FOR UPDATE
) AS named
WHERE e.account = named.account AND e.livemode = named.livemode AND e.id = named.id
RETURNING
    e.account,
    e.livemode,
    e.id,
    e.type,
    e.api_version,
    e.payload,
    e.attempts,
    e.received_at,
    e.request_id;

-- name: settle
-- Record what became of leased events. The lease token is the fence: the rows of a worker whose lease
-- has gone to another are not touched, and the caller sees it from what comes back. One success of a
-- type ends its row of failures.
WITH recovered AS (
    DELETE FROM event_breakers
    WHERE event_type = any($11::text [])
)

UPDATE stripe_events AS e
SET
    state = s.state,
    lease_token = NULL,
    available_at = coalesce(s.available_at, e.available_at),
    settled_at = CASE WHEN s.state = 'retrying' THEN NULL ELSE now() END,
    reason = s.reason,
    error_class = s.error_class,
    error_trace = s.error_trace,
    organization_id = coalesce(s.organization_id, e.organization_id),
    waits_for = s.waits_for
FROM unnest(
    $2::text [],
    $3::boolean [],
    $4::text [],
    $5::text [],
    $6::text [],
    $7::text [],
    $8::text [],
    $9::timestamptz [],
    $10::uuid [],
    $12::text []
) AS s (
    account,
    livemode,
    id,
    state,
    reason,
    error_class,
    error_trace,
    available_at,
    organization_id,
    waits_for
)
WHERE
    e.account = s.account
    AND e.livemode = s.livemode
    AND e.id = s.id
    AND e.lease_token = $1
RETURNING e.id;

-- name: release
-- Give leased events back untried, due again at the given moment.
UPDATE stripe_events AS e
SET
    lease_token = NULL,
    attempts = greatest(e.attempts - 1, 0),
    available_at = $5
FROM unnest($2::text [], $3::boolean [], $4::text []) AS r (account, livemode, id)
WHERE
    e.account = r.account
    AND e.livemode = r.livemode
    AND e.id = r.id
    AND e.lease_token = $1;

-- name: count_failure
-- Count one more unexpected failure in a row of a type.
INSERT INTO event_breakers AS b (event_type, failures_in_row, paused_until)
VALUES ($1, 1, now())
ON CONFLICT (event_type) DO UPDATE
SET failures_in_row = b.failures_in_row + 1, updated_at = now()
RETURNING failures_in_row;

-- name: pause_type
-- Hold a type back until the given moment.
UPDATE event_breakers
SET paused_until = $2
WHERE event_type = $1;

-- name: backlog
-- How much is not settled, and how old the oldest event is that should have been. Each part goes by its
-- partial index and reads no more than the given number of rows: as many stand for more.
WITH open AS (
    SELECT
        state,
        received_at,
        available_at
    FROM stripe_events
    WHERE state IN ('received', 'retrying')
    ORDER BY available_at
    LIMIT $1
),

dead AS (
    SELECT received_at
    FROM stripe_events
    WHERE state = 'dead'
    ORDER BY received_at DESC
    LIMIT $1
),

quarantined AS (
    SELECT received_at
    FROM stripe_events
    WHERE state = 'quarantined'
    ORDER BY received_at DESC
    LIMIT $1
)

SELECT
    state,
    count(*) AS events,
    coalesce(
        extract(EPOCH FROM now() - min(received_at) FILTER (WHERE available_at <= now())), 0
    )::float8 AS oldest_seconds
FROM open
GROUP BY state
UNION ALL
SELECT
    'dead',
    count(*),
    0
FROM dead
HAVING count(*) > 0
UNION ALL
SELECT
    'quarantined',
    count(*),
    0
FROM quarantined
HAVING count(*) > 0;

-- name: list_events
-- A page of events, newest first, after a cursor (arrival and id of the last row seen).
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

-- name: show_event
-- Everything that is known of an event.
SELECT
    account,
    livemode,
    id,
    type,
    api_version,
    state,
    attempts,
    reason,
    error_class,
    error_trace,
    received_at,
    available_at,
    settled_at,
    stripe_created_at,
    organization_id,
    request_id,
    payload
FROM stripe_events
WHERE id = $1
ORDER BY account, livemode;

-- name: select_for_replay
-- The ids that a replay names by its filters, oldest first.
SELECT id
FROM stripe_events
WHERE
    state = $1
    AND ($2::text IS NULL OR type = $2)
    AND ($3::timestamptz IS NULL OR received_at >= $3)
ORDER BY received_at, id
LIMIT $4;

-- name: discard
-- Close an event for good, by a person's decision. An applied one has nothing left to discard.
UPDATE stripe_events
SET
    state = 'discarded',
    reason = $2,
    lease_token = NULL,
    settled_at = now()
WHERE id = $1 AND state IN ('dead', 'retrying', 'received', 'quarantined', 'ignored')
RETURNING id;

-- name: pending
-- How many events are still to be settled by a worker.
SELECT count(*)
FROM stripe_events
WHERE state IN ('received', 'retrying');

-- name: lock_waiting
-- Take one of Stripe's ids until the end of the transaction, before an event is ignored for want of whoever
-- owns it. Whoever comes to own it takes the same lock (see below): one of the two sees the other.
SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0));

-- name: lock_owned
-- Take Stripe's ids that have an owner now, before the events that wait for them are looked for.
SELECT pg_advisory_xact_lock(hashtextextended(i.id, 0))
FROM (
    SELECT DISTINCT u.id
    FROM unnest($1::text []) AS u (id)
    ORDER BY u.id
) AS i;

-- name: reopen_waiting
-- Let the events be applied that were ignored because nobody owned one of these ids.
UPDATE stripe_events
SET
    state = 'received',
    reason = NULL,
    settled_at = NULL,
    waits_for = NULL,
    attempts = 0,
    available_at = now()
WHERE state = 'ignored' AND waits_for = any($1::text []);
