-- name: announce
-- Announce a batch of messages in one round trip, in the transaction of the caller.
SELECT announce(m.organization_id, m.id, m.type, m.data::jsonb, m.at)
FROM unnest(
    $1::uuid [],
    $2::uuid [],
    $3::text [],
    $4::text [],
    $5::timestamptz []
) AS m (organization_id, id, type, data, at);

-- name: add_endpoint
-- Insert an endpoint, or enable a disabled one again. Returns no row if the URL is in use.
INSERT INTO webhook_endpoints AS e (id, url, secret, types, description)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (url) DO UPDATE
SET
    secret = excluded.secret,
    previous_secret = NULL,
    previous_secret_until = NULL,
    types = excluded.types,
    description = excluded.description,
    disabled_at = NULL,
    disabled_reason = NULL
WHERE e.disabled_at IS NOT NULL
RETURNING
    e.id,
    e.url,
    e.types,
    e.description,
    e.created_at,
    e.disabled_at,
    e.disabled_reason;

-- name: put_endpoint
-- Insert an endpoint, or update the one with this URL. An enabled one keeps its secret; the last column is
-- whether the new secret ($3) was stored.
INSERT INTO webhook_endpoints AS e (id, url, secret, types, description)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (url) DO UPDATE
SET
    secret = CASE WHEN e.disabled_at IS NULL THEN e.secret ELSE excluded.secret END,
    previous_secret = CASE WHEN e.disabled_at IS NULL THEN e.previous_secret END,
    previous_secret_until = CASE WHEN e.disabled_at IS NULL THEN e.previous_secret_until END,
    types = excluded.types,
    description = excluded.description,
    disabled_at = NULL,
    disabled_reason = NULL
RETURNING
    e.id,
    e.url,
    e.types,
    e.description,
    e.created_at,
    e.disabled_at,
    e.disabled_reason,
    e.secret = $3 AS has_new_secret;

-- name: list_endpoints
-- Every endpoint, the oldest first, without its secret.
SELECT
    id,
    url,
    types,
    description,
    created_at,
    disabled_at,
    disabled_reason
FROM webhook_endpoints
ORDER BY created_at, id
LIMIT 1000;

-- name: rotate_secret
-- Replace an endpoint's secret; the previous one signs as well until $3.
UPDATE webhook_endpoints
SET
    previous_secret = secret,
    previous_secret_until = $3,
    secret = $2
WHERE id = $1 AND disabled_at IS NULL
RETURNING
    id,
    url,
    types,
    description,
    created_at,
    disabled_at,
    disabled_reason;

-- name: disable_endpoint
-- Disable an endpoint.
UPDATE webhook_endpoints
SET disabled_at = now(), disabled_reason = $2
WHERE id = $1 AND disabled_at IS NULL
RETURNING id;

-- name: discard_of_endpoint
-- Discard the pending messages of an endpoint that an operator removed. Locks them in the order of their ids.
UPDATE outbound_messages AS m
SET
    state = 'discarded',
    reason = $2,
    lease_token = NULL,
    settled_at = now()
FROM (
    SELECT s.id
    FROM outbound_messages AS s
    WHERE s.endpoint_id = $1 AND s.state = 'pending'
    ORDER BY s.id
    FOR UPDATE
) AS chosen
WHERE m.id = chosen.id AND m.endpoint_id = $1
RETURNING m.id;

-- name: claim
-- Lease due messages, the oldest first, up to $4 attempts at once for each endpoint, including those in progress ($5, $6).
-- Rows that another worker has locked are skipped. As with events, the commit of a claim is asynchronous.
WITH asynchronous AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', TRUE) AS setting
),

due AS (
    SELECT
        m.id,
        m.endpoint_id,
        e.url,
        e.secret,
        e.previous_secret,
        e.previous_secret_until,
        e.disabled_at
    FROM asynchronous
    CROSS JOIN webhook_endpoints AS e
    LEFT JOIN unnest($5::uuid [], $6::integer []) AS u (endpoint_id, messages)
        ON e.id = u.endpoint_id
    CROSS JOIN LATERAL (
        SELECT
            w.id,
            w.endpoint_id,
            w.available_at
        FROM outbound_messages AS w
        WHERE w.endpoint_id = e.id AND w.state = 'pending' AND w.available_at <= now()
        ORDER BY w.available_at
        LIMIT greatest($4::integer - coalesce(u.messages, 0), 0)
        FOR UPDATE SKIP LOCKED
    ) AS m
    ORDER BY m.available_at
    LIMIT $1
)

UPDATE outbound_messages AS m
SET
    lease_token = $2,
    available_at = now() + $3::interval,
    attempts = m.attempts + 1
FROM due
WHERE m.id = due.id AND m.endpoint_id = due.endpoint_id
RETURNING
    m.id,
    m.endpoint_id,
    m.type,
    m.payload,
    m.attempts,
    coalesce(m.replayed_at, m.created_at) AS since,
    due.url,
    due.secret,
    due.previous_secret,
    due.previous_secret_until,
    due.disabled_at IS NOT NULL AS endpoint_disabled;

-- name: finish
-- Record the outcome of an attempt. The lease token is a fencing token: a row that another worker has leased is
-- neither changed nor returned. A link to the page for 3-D Secure is a secret: once delivered, it is removed
-- here and remains only as a digest, with its recharge attempt.
UPDATE outbound_messages
SET
    payload = CASE
        WHEN $4 = 'delivered' AND type = 'recharge.requires_action'
            THEN regexp_replace(payload, '/pay/[A-Za-z0-9_-]+', '/pay/[removed]')
        ELSE payload
    END,
    state = $4,
    lease_token = NULL,
    available_at = coalesce($7, available_at),
    settled_at = CASE WHEN $4 = 'pending' THEN NULL ELSE now() END,
    last_status = $5,
    reason = $6
WHERE id = $2 AND endpoint_id = $3 AND lease_token = $1
RETURNING id;

-- name: backlog
-- The number of pending and dead messages, by the index on the state; counting ends at $1.
SELECT
    'pending' AS state,
    count(*) AS messages
FROM (
    SELECT created_at
    FROM outbound_messages
    WHERE state = 'pending'
    ORDER BY created_at DESC
    LIMIT $1
) AS pending
UNION ALL
SELECT
    'dead',
    count(*)
FROM (
    SELECT created_at
    FROM outbound_messages
    WHERE state = 'dead'
    ORDER BY created_at DESC
    LIMIT $1
) AS dead;

-- name: list_messages
-- The newest messages, a row for each endpoint.
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
    e.url
FROM outbound_messages AS m
INNER JOIN webhook_endpoints AS e ON m.endpoint_id = e.id
WHERE
    ($1::text IS NULL OR m.state = $1)
    AND ($2::text IS NULL OR m.type = $2)
ORDER BY m.created_at DESC, m.id DESC, m.endpoint_id DESC
LIMIT $3;

-- name: show_message
-- Every column of a message, a row for each endpoint.
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
    m.payload,
    e.url
FROM outbound_messages AS m
INNER JOIN webhook_endpoints AS e ON m.endpoint_id = e.id
WHERE m.id = $1
ORDER BY m.endpoint_id;

-- name: discard
-- Discard a message, by an operator's decision, for every endpoint that has not received it. The error stays. Locks its
-- rows in the order of their endpoints.
UPDATE outbound_messages AS m
SET
    state = 'discarded',
    reason = coalesce(m.reason, $2),
    discard_reason = $2,
    lease_token = NULL,
    settled_at = now()
FROM (
    SELECT s.endpoint_id
    FROM outbound_messages AS s
    WHERE s.id = $1 AND s.state IN ('pending', 'dead')
    ORDER BY s.endpoint_id
    FOR UPDATE
) AS chosen
WHERE m.id = $1 AND m.endpoint_id = chosen.endpoint_id
RETURNING m.id, m.endpoint_id, m.organization_id;
