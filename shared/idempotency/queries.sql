-- name: claim
-- Take a key for a request: a new one, or one whose last try has ended without an answer. The row says
-- who has it: the id is the one given where the key was new.
INSERT INTO idempotent_requests AS r (tenant_id, key, digest, id, locked_until, token)
VALUES ($1, $2, $3, $4, now() + $5::interval, $6)
ON CONFLICT (tenant_id, key) DO UPDATE
    SET locked_until = excluded.locked_until, token = excluded.token
    WHERE r.answer IS NULL AND r.locked_until <= now() AND r.digest = excluded.digest
RETURNING id;

-- name: find
-- What a key stands for.
SELECT
    digest,
    status,
    answer
FROM idempotent_requests
WHERE tenant_id = $1 AND key = $2;

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
