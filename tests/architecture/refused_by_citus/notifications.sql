-- name: settle
-- Record what an attempt came to. The lease token is the fence: a row whose lease has gone to another is
-- not touched, and the caller sees it from what comes back.
UPDATE outbound_messages
SET
    state = $4,
    lease_token = NULL,
    available_at = coalesce($7, available_at),
    settled_at = CASE WHEN $4 = 'pending' THEN NULL ELSE now() END,
    last_status = $5,
    reason = $6
WHERE id = $2 AND endpoint_id = $3 AND lease_token = $1
RETURNING id;

-- name: replay
-- Make messages due now, with their attempts and their three days begun again: the named ones (NULL: all),
-- in the given state (NULL: any), of the given type (NULL: any). What a worker holds is on its way already,
-- and a disabled endpoint takes nothing.
UPDATE outbound_messages AS m
SET
    state = 'pending',
    attempts = 0,
    available_at = now(),
    replayed_at = now(),
    settled_at = NULL,
    reason = NULL
FROM (
    SELECT
        w.id,
        w.endpoint_id
    FROM outbound_messages AS w
    INNER JOIN webhook_endpoints AS e ON w.endpoint_id = e.id
    WHERE
        ($1::uuid [] IS NULL OR w.id = any($1))
        AND ($2::text IS NULL OR w.state = $2)
        AND ($3::text IS NULL OR w.type = $3)
        AND (w.lease_token IS NULL OR w.available_at <= now())
        AND e.disabled_at IS NULL
    ORDER BY w.id, w.endpoint_id
    LIMIT $4
    FOR UPDATE OF w
) AS named
WHERE m.id = named.id AND m.endpoint_id = named.endpoint_id
RETURNING m.id, m.endpoint_id, m.organization_id;
