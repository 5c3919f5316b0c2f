-- name: create_key
-- Store a key by its digest.
INSERT INTO api_keys (id, name, scope, organization_id, key_sha256, key_hint)
VALUES ($1, $2, $3, $4, $5, $6);

-- name: find_callers
-- The keys of these digests, those that work.
SELECT
    key_sha256,
    id,
    name,
    scope,
    organization_id
FROM api_keys
WHERE key_sha256 = any($1::bytea []) AND revoked_at IS NULL;

-- name: list_keys
-- Every key, newest first; of the key itself only its last characters are known.
SELECT
    id,
    name,
    scope,
    organization_id,
    key_hint,
    created_at,
    revoked_at
FROM api_keys
ORDER BY created_at DESC, id DESC
LIMIT 1000;

-- name: revoke_key
-- Make a key useless from now on.
UPDATE api_keys
SET revoked_at = now()
WHERE id = $1 AND revoked_at IS NULL
RETURNING id;

-- name: record
-- Write down who did what, to what, and why.
INSERT INTO audit_log (id, actor, action, subject, organization_id, reason, details)
VALUES ($1, $2, $3, $4, $5, $6, $7);
