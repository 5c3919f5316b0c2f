-- name: clear_messages
-- Clear the bodies of messages that were delivered before the retention, the oldest first; return how many messages.
WITH due AS (
    SELECT
        id,
        endpoint_id
    FROM outbound_messages
    WHERE
        state = 'delivered'
        AND payload <> '{}'
        AND settled_at < now() - make_interval(months => $1::integer) - $2::interval
    ORDER BY settled_at
    LIMIT $3
    FOR NO KEY UPDATE SKIP LOCKED
),

cleared AS (
    UPDATE outbound_messages AS m
    SET payload = '{}'
    FROM due AS d
    WHERE m.id = d.id AND m.endpoint_id = d.endpoint_id
    RETURNING m.id
)

SELECT count(*) FROM cleared;

-- name: with_attempt_details
-- The organizations of attempts that ended before the retention and still have Stripe's texts, the oldest first.
SELECT DISTINCT d.organization_id
FROM (
    SELECT organization_id
    FROM recharge_attempts
    WHERE
        settled_at IS NOT NULL
        AND detail IS NOT NULL
        AND settled_at < now() - make_interval(months => $1::integer) - $2::interval
    ORDER BY settled_at
    LIMIT $3
) AS d;

-- name: clear_attempt_details
-- Remove Stripe's texts from attempts of an organization that ended before the retention.
WITH due AS (
    SELECT id
    FROM recharge_attempts
    WHERE
        organization_id = $1
        AND settled_at IS NOT NULL
        AND detail IS NOT NULL
        AND settled_at < now() - make_interval(months => $2::integer) - $3::interval
    LIMIT $4
    FOR NO KEY UPDATE SKIP LOCKED
)

UPDATE recharge_attempts AS a
SET detail = NULL
FROM due AS d
WHERE a.organization_id = $1 AND a.id = d.id
RETURNING a.id;

-- name: oldest_message
-- When the oldest delivered message that still has its body was delivered.
SELECT settled_at
FROM outbound_messages
WHERE state = 'delivered' AND payload <> '{}'
ORDER BY settled_at
LIMIT 1;

-- name: oldest_attempt_detail
-- When the oldest ended attempt that still has a text of Stripe ended.
SELECT settled_at
FROM recharge_attempts
WHERE settled_at IS NOT NULL AND detail IS NOT NULL
ORDER BY settled_at
LIMIT 1;
