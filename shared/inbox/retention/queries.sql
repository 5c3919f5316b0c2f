-- name: deleted_payloads
-- Those of these events whose payload was deleted, with the time of deletion.
SELECT
    id,
    payload_forgotten_at
FROM stripe_events
WHERE id = any($1::text []) AND payload_forgotten_at IS NOT NULL;

-- name: remove_client_secrets
-- Remove client secrets from events that an older release stored, the oldest first; return how many events.
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

-- name: payloads_to_delete
-- Lock events that finished before the retention, the oldest first, to delete their payloads. Events that wait for an
-- organization or for an operator's decision are excluded.
SELECT
    account,
    livemode,
    id,
    type,
    payload
FROM stripe_events
WHERE
    state IN ('applied', 'ignored', 'discarded')
    AND waits_for IS NULL
    AND payload_forgotten_at IS NULL
    AND settled_at < now() - make_interval(months => $1::integer) - $2::interval
ORDER BY settled_at
LIMIT $3
FOR UPDATE SKIP LOCKED;

-- name: oldest_payload
-- When the oldest event finished whose payload the retention deletes.
SELECT settled_at
FROM stripe_events
WHERE
    state IN ('applied', 'ignored', 'discarded')
    AND waits_for IS NULL
    AND payload_forgotten_at IS NULL
ORDER BY settled_at
LIMIT 1;

-- name: delete_payloads
-- Replace payloads of events by what is left of them; return how many events.
WITH deleted AS (
    UPDATE stripe_events AS e
    SET
        payload = d.payload,
        payload_forgotten_at = now(),
        secrets_removed = TRUE
    FROM unnest($1::text [], $2::boolean [], $3::text [], $4::text []) AS d (account, livemode, id, payload)
    WHERE e.account = d.account AND e.livemode = d.livemode AND e.id = d.id
    RETURNING e.id
)

SELECT count(*) FROM deleted;

-- name: finished_payloads
-- Lock those of these events that have finished and still have a payload.
SELECT
    e.account,
    e.livemode,
    e.id,
    e.type,
    e.payload
FROM stripe_events AS e
INNER JOIN unnest($1::text [], $2::boolean [], $3::text []) AS k (account, livemode, id)
    ON e.account = k.account AND e.livemode = k.livemode AND e.id = k.id
WHERE
    e.state IN ('applied', 'ignored', 'discarded')
    AND e.waits_for IS NULL
    AND e.payload_forgotten_at IS NULL
ORDER BY e.id
FOR UPDATE OF e;
