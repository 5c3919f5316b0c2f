-- name: claim
-- Take a key for a request, or find what it stands for.
SELECT
    claimed,
    digest,
    status,
    answer
FROM claim_request($1, $2, $3, $4, $5, $6);

-- name: keep
-- Keep the answer of a request, unless another try has its key by now.
UPDATE idempotent_requests
SET status = $4, answer = $5
WHERE tenant_id = $1 AND key = $2 AND token = $3 AND answer IS NULL
RETURNING key;

-- name: leave
-- Let the next try in at once.
UPDATE idempotent_requests
SET locked_until = now()
WHERE tenant_id = $1 AND key = $2 AND token = $3 AND answer IS NULL;

-- name: forget
-- Free a key whose request changed nothing.
DELETE FROM idempotent_requests
WHERE tenant_id = $1 AND key = $2 AND token = $3 AND answer IS NULL;

-- name: purge
-- Forget what nobody tries again any more, the oldest first; say how much that was.
WITH old AS (
    SELECT
        tenant_id,
        key
    FROM idempotent_requests
    WHERE created_at < now() - $1::interval
    ORDER BY created_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
),

forgotten AS (
    DELETE FROM idempotent_requests AS r
    USING old AS o
    WHERE r.tenant_id = o.tenant_id AND r.key = o.key
    RETURNING r.key
)

SELECT count(*) FROM forgotten;
