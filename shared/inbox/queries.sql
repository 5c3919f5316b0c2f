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
-- Lease what is due in a lane, oldest first. What another worker holds is skipped, not waited for. While a type
-- is paused, the type that has waited longest of the others is claimed alone, so that the events of the paused one
-- are not walked. Whatever ends before its events are settled leaves them in the lane after a lost lease. The
-- claim need not survive a crash (a lost one is simply due again), so its commit does not wait for the disk.
WITH RECURSIVE unflushed AS MATERIALIZED (
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
    CROSS JOIN unflushed
    WHERE
        e.state IN ('received', 'retrying')
        AND e.lane = $4
        AND e.available_at <= now()
        AND NOT EXISTS (SELECT FROM paused)
    ORDER BY e.available_at
    LIMIT $1
    FOR UPDATE OF e SKIP LOCKED
),

due_beside_paused AS (
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
    lane = $5,
    leases_lost = e.leases_lost + (e.lease_token IS NOT NULL)::integer
FROM (
    SELECT * FROM due
    UNION ALL
    SELECT * FROM due_beside_paused
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
    e.leases_lost;

-- name: claim_for_replay
-- Lease named events whatever their state, with their attempts counted from one again. What is
-- quarantined stays so unless it has become ours: the right mode, and an account that is listed now. What
-- has lost its payload is not there to be replayed.
UPDATE stripe_events AS e
SET
    state = 'received',
    settled_at = NULL,
    lease_token = $2,
    available_at = now() + $3::interval,
    attempts = 1,
    lane = 'alone',
    leases_lost = 0
FROM (
    SELECT
        s.account,
        s.livemode,
        s.id
    FROM stripe_events AS s
    WHERE
        s.id = any($1::text [])
        AND s.livemode = $4
        AND s.payload_forgotten_at IS NULL
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
    e.leases_lost;

-- name: finish
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
    e.account = s.account
    AND e.livemode = s.livemode
    AND e.id = s.id
    AND e.lease_token = $1
RETURNING e.id;

-- name: release
-- Give leased events back to a lane untried, due again after a while. Their worker is alive.
UPDATE stripe_events AS e
SET
    lease_token = NULL,
    attempts = greatest(e.attempts - 1, 0),
    available_at = now() + $5::interval,
    lane = $6,
    leases_lost = 0
FROM unnest($2::text [], $3::boolean [], $4::text []) AS r (account, livemode, id)
WHERE
    e.account = r.account
    AND e.livemode = r.livemode
    AND e.id = r.id
    AND e.lease_token = $1;

-- name: renew
-- Extend a lease; return the events that are still under it.
UPDATE stripe_events AS e
SET available_at = now() + $5::interval
FROM unnest($2::text [], $3::boolean [], $4::text []) AS r (account, livemode, id)
WHERE
    e.account = r.account
    AND e.livemode = r.livemode
    AND e.id = r.id
    AND e.lease_token = $1
RETURNING
    e.account,
    e.livemode,
    e.id;

-- name: limit_waits
-- How long the statements of this transaction wait for a lock, and may take.
SELECT
    set_config('lock_timeout', $1, TRUE),
    set_config('statement_timeout', $2, TRUE);

-- name: count_failure
-- Count one more unexpected failure in a row of a type.
INSERT INTO event_breakers AS b (event_type, failures_in_row, paused_until)
VALUES ($1, 1, now())
ON CONFLICT (event_type) DO UPDATE
SET failures_in_row = b.failures_in_row + 1, updated_at = now()
RETURNING failures_in_row;

-- name: pause_type
-- Hold a type back for a while.
UPDATE event_breakers
SET paused_until = now() + $2::interval
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

-- name: list_in_rare_state
-- A page of the events in one of the states that few are in: read from their index, however many others there are.
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
-- Everything that is known of an event.
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
-- The ids that a replay names by its filters, oldest first.
SELECT id
FROM stripe_events
WHERE
    state = $1
    AND ($2::text IS NULL OR type = $2)
    AND ($3::timestamptz IS NULL OR received_at >= $3)
ORDER BY received_at, id
LIMIT $4;

-- name: select_rare_for_replay
-- The same where the state is one that few events are in: read from their index.
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
    available_at = now(),
    lane = 'shared',
    leases_lost = 0
WHERE state = 'ignored' AND waits_for = any($1::text []);

-- name: deleted_payloads
-- Of some events those that have lost their payloads, and when.
SELECT
    id,
    payload_forgotten_at
FROM stripe_events
WHERE id = any($1::text []) AND payload_forgotten_at IS NOT NULL;

-- name: remove_client_secrets
-- Take the client secrets out of events that an older release has stored, the oldest first; say how many events
-- that were.
WITH stored AS (
    SELECT
        account,
        livemode,
        id
    FROM stripe_events
    WHERE NOT secrets_removed
    ORDER BY received_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
),

cleaned AS (
    UPDATE stripe_events AS e
    SET
        payload = CASE
            WHEN strpos(e.payload, '"client_secret"') = 0 THEN e.payload
            ELSE regexp_replace(
                e.payload, '("client_secret"\s*:\s*)"[^"]*"', '\1"[removed]"', 'g'
            )
        END,
        secrets_removed = TRUE
    FROM stored AS s
    WHERE e.account = s.account AND e.livemode = s.livemode AND e.id = s.id
    RETURNING e.id
)

SELECT count(*) FROM cleaned;

-- name: delete_payloads
-- Leave no more of events that were settled long ago than what they were, the oldest first; say how many that
-- were. Who waits for an owner, or for a person to decide, keeps its payload.
WITH settled AS (
    SELECT
        account,
        livemode,
        id
    FROM stripe_events
    WHERE
        state IN ('applied', 'ignored', 'discarded')
        AND waits_for IS NULL
        AND payload_forgotten_at IS NULL
        AND settled_at < now() - make_interval(months => $1::integer) - $2::interval
    ORDER BY settled_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
),

forgotten AS (
    UPDATE stripe_events AS e
    SET
        payload = json_build_object('id', e.id, 'object', 'event', 'type', e.type)::text,
        payload_forgotten_at = now(),
        secrets_removed = TRUE
    FROM settled AS s
    WHERE e.account = s.account AND e.livemode = s.livemode AND e.id = s.id
    RETURNING e.id
)

SELECT count(*) FROM forgotten;
