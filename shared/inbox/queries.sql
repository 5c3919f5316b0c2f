-- name: receive
-- Insert a batch of verified events; return the new ones.
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
    settled_at,
    secrets_removed
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
    CASE WHEN e.quarantine IS NULL THEN NULL ELSE now() END,
    TRUE
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
-- Lease due events of a lane, the oldest first. Rows that another worker has locked are skipped. While a type is
-- paused, each claim takes one other type, the one that has waited longest, so that no rows of paused types are read.
-- If the worker dies, its events are due again in the lane after a lost lease ($5), and those that lost one before in
-- `suspect`. A claim need not survive a crash (the event is due again), so its commit is asynchronous. `types_paused`:
-- events of other types may be due as well.
WITH RECURSIVE asynchronous AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', TRUE) AS setting
),

paused AS MATERIALIZED (
    SELECT event_type
    FROM event_breakers
    WHERE paused_until > now()
),

waiting AS (
    (
        SELECT
            e.type,
            e.available_at
        FROM stripe_events AS e
        WHERE
            e.state IN ('received', 'retrying')
            AND e.lane = $4
            AND EXISTS (SELECT FROM paused)
        ORDER BY e.type, e.available_at
        LIMIT 1
    )
    UNION ALL
    SELECT
        n.type,
        n.available_at
    FROM waiting AS w
    CROSS JOIN LATERAL (
        SELECT
            e.type,
            e.available_at
        FROM stripe_events AS e
        WHERE e.state IN ('received', 'retrying') AND e.lane = $4 AND e.type > w.type
        ORDER BY e.type, e.available_at
        LIMIT 1
    ) AS n
),

due AS (
    SELECT
        e.account,
        e.livemode,
        e.id
    FROM stripe_events AS e
    CROSS JOIN asynchronous
    WHERE
        e.state IN ('received', 'retrying')
        AND e.lane = $4
        AND e.available_at <= now()
        AND NOT EXISTS (SELECT FROM paused)
    ORDER BY e.available_at
    LIMIT $1
    FOR UPDATE OF e SKIP LOCKED
),

due_while_paused AS (
    SELECT
        e.account,
        e.livemode,
        e.id
    FROM stripe_events AS e
    WHERE
        e.state IN ('received', 'retrying')
        AND e.lane = $4
        AND e.available_at <= now()
        AND e.type = (
            SELECT w.type
            FROM waiting AS w
            WHERE
                w.available_at <= now()
                AND w.type NOT IN (SELECT p.event_type FROM paused AS p)
            ORDER BY w.available_at
            LIMIT 1
        )
    ORDER BY e.available_at
    LIMIT $1
    FOR UPDATE OF e SKIP LOCKED
)

UPDATE stripe_events AS e
SET
    lease_token = $2,
    available_at = now() + $3::interval,
    attempts = e.attempts + 1,
    lane = CASE WHEN e.lease_token IS NULL THEN $5 ELSE 'suspect' END,
    leases_lost = e.leases_lost + (e.lease_token IS NOT NULL)::integer
FROM (
    SELECT * FROM due
    UNION ALL
    SELECT * FROM due_while_paused
) AS d
WHERE e.account = d.account AND e.livemode = d.livemode AND e.id = d.id
RETURNING
    e.account,
    e.livemode,
    e.id,
    e.type,
    e.api_version,
    e.payload,
    e.attempts,
    e.received_at,
    e.request_id,
    e.leases_lost,
    e.payload_forgotten_at,
    EXISTS (SELECT FROM paused) AS types_paused;

-- name: due_in
-- In how many seconds the next event of each lane is due: one look-up each, where a claim costs more, and finds none.
SELECT
    l.lane,
    extract(EPOCH FROM n.available_at - now())::float8 AS seconds
FROM unnest($1::text []) AS l (lane)
CROSS JOIN LATERAL (
    SELECT e.available_at
    FROM stripe_events AS e
    WHERE e.state IN ('received', 'retrying') AND e.lane = l.lane
    ORDER BY e.available_at
    LIMIT 1
) AS n;

-- name: claim_for_replay
-- Lease events by id in any state, and restart their count of attempts. A quarantined event is leased only if it
-- belongs to this installation now: mode $4 and an account in $5. An event without its payload is skipped, unless its
-- object is read from Stripe again ($6).
UPDATE stripe_events AS e
SET
    state = 'received',
    settled_at = NULL,
    lease_token = $2,
    available_at = now() + $3::interval,
    attempts = 1,
    lane = 'alone',
    leases_lost = 0,
    discard_reason = NULL
FROM (
    SELECT
        s.account,
        s.livemode,
        s.id
    FROM stripe_events AS s
    WHERE
        s.id = any($1::text [])
        AND s.livemode = $4
        AND ($6 OR s.payload_forgotten_at IS NULL)
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
    e.request_id,
    e.leases_lost,
    e.payload_forgotten_at;

-- name: finish
-- Record the outcomes of leased events. The lease token is a fencing token: rows that another worker has leased are
-- neither changed nor returned. A success of a type ($11) resets its failures. `erased`: the payload must go.
WITH recovered AS (
    DELETE FROM event_breakers
    WHERE event_type = any($11::text [])
)

UPDATE stripe_events AS e
SET
    state = s.state,
    lease_token = NULL,
    available_at = coalesce(now() + s.retry_in, e.available_at),
    lane = coalesce(s.lane, e.lane),
    leases_lost = CASE WHEN s.state = 'retrying' THEN 0 ELSE e.leases_lost END,
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
    $9::interval [],
    $10::uuid [],
    $12::text [],
    $13::text []
) AS s (
    account,
    livemode,
    id,
    state,
    reason,
    error_class,
    error_trace,
    retry_in,
    organization_id,
    waits_for,
    lane
)
WHERE
    (e.account, e.livemode, e.id) = (s.account, s.livemode, s.id)
    AND e.lease_token = $1
RETURNING
    e.account,
    e.livemode,
    e.id,
    ledger_is_erased(e.organization_id) AS erased;

-- name: release
-- Release leased events to a lane ($6), due again after $5. The attempt is not counted, and neither is a lost lease.
UPDATE stripe_events AS e
SET
    lease_token = NULL,
    attempts = greatest(e.attempts - 1, 0),
    available_at = now() + $5::interval,
    lane = $6,
    leases_lost = 0
FROM unnest($2::text [], $3::boolean [], $4::text []) AS r (account, livemode, id)
WHERE
    (e.account, e.livemode, e.id) = (r.account, r.livemode, r.id)
    AND e.lease_token = $1;

-- name: renew
-- Extend a lease; return the events that are still leased under this token.
UPDATE stripe_events AS e
SET available_at = now() + $5::interval
FROM unnest($2::text [], $3::boolean [], $4::text []) AS r (account, livemode, id)
WHERE
    (e.account, e.livemode, e.id) = (r.account, r.livemode, r.id)
    AND e.lease_token = $1
RETURNING
    e.account,
    e.livemode,
    e.id;

-- name: keep
-- Extend a lease while its holder works. A row that is locked is left out: its outcome is being written. Like a claim,
-- this need not survive a crash.
WITH asynchronous AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', TRUE) AS setting
),

held AS (
    SELECT
        e.account,
        e.livemode,
        e.id
    FROM unnest($2::text [], $3::boolean [], $4::text []) AS r (account, livemode, id)
    INNER JOIN stripe_events AS e
        ON (r.account, r.livemode, r.id) = (e.account, e.livemode, e.id)
    CROSS JOIN asynchronous
    WHERE e.lease_token = $1
    FOR UPDATE OF e SKIP LOCKED
)

UPDATE stripe_events AS e
SET available_at = now() + $5::interval
FROM held AS h
WHERE (e.account, e.livemode, e.id) = (h.account, h.livemode, h.id);

-- name: count_failure
-- Count an unexpected failure of a type; return the number of consecutive ones.
INSERT INTO event_breakers AS b (event_type, failures_in_row, paused_until)
VALUES ($1, 1, now())
ON CONFLICT (event_type) DO UPDATE
SET failures_in_row = b.failures_in_row + 1, updated_at = now()
RETURNING failures_in_row;

-- name: pause_type
-- Pause a type for $2.
UPDATE event_breakers
SET paused_until = now() + $2::interval
WHERE event_type = $1;

-- name: backlog
-- The number of open, dead and quarantined events, and the age of the oldest due one. Each part reads at most $1
-- rows of its partial index.
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

-- name: pending
-- The number of unfinished events.
SELECT count(*)
FROM stripe_events
WHERE state IN ('received', 'retrying');

-- name: lock_waiting
-- Take a shared advisory lock on a Stripe id before an event is ignored because no organization has the id. The
-- transaction that binds the id locks it exclusively (reopen_waiting_events), so that one sees the other's writes.
SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0));

-- name: reopen_waiting
-- Reopen the events that were ignored because no organization had one of these ids.
SELECT reopen_waiting_events($1::text []);
