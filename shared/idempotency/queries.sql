-- name: claim
-- Claim a key for a request, or return the request that used it.
SELECT
    claimed,
    digest,
    status,
    answer
FROM claim_request($1, $2, $3, $4, $5, $6);

-- name: complete
-- Store the answer of a request, unless another attempt holds its key by now.
UPDATE idempotent_requests
SET status = $4, answer = $5
WHERE tenant_id = $1 AND key = $2 AND token = $3 AND answer IS NULL
RETURNING key;

-- name: release
-- End the lease: the next attempt can claim the key at once.
UPDATE idempotent_requests
SET locked_until = now()
WHERE tenant_id = $1 AND key = $2 AND token = $3 AND answer IS NULL;

-- name: delete
-- Delete the key of a request that changed nothing.
DELETE FROM idempotent_requests
WHERE tenant_id = $1 AND key = $2 AND token = $3 AND answer IS NULL;

-- name: purge
-- Delete keys past their retention, oldest first; return how many.
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

deleted AS (
    DELETE FROM idempotent_requests AS r
    USING old AS o
    WHERE r.tenant_id = o.tenant_id AND r.key = o.key
    RETURNING r.key
)

SELECT count(*) FROM deleted;
