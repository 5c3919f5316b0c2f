-- name: create_key
-- Store a key by its digest.
INSERT INTO api_keys (
    id,
    name,
    scope,
    scopes,
    organization_id,
    key_sha256,
    key_hint,
    expires_at
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: retire_expired
-- Free the name of a key that has expired; one that was rotated holds none.
UPDATE api_keys
SET revoked_at = expires_at
WHERE name = $1 AND revoked_at IS NULL AND replaced_by IS NULL AND expires_at <= now();

-- name: find_callers
-- The valid keys and sessions with these digests. A session ends with its key.
SELECT
    k.key_sha256 AS digest,
    k.id,
    k.name,
    k.scope,
    k.scopes,
    k.organization_id,
    k.expires_at,
    FALSE AS is_session
FROM api_keys AS k
WHERE
    k.key_sha256 = any($1::bytea [])
    AND k.revoked_at IS NULL
    AND (k.expires_at > now()) IS NOT FALSE
UNION ALL
SELECT
    s.token_sha256,
    k.id,
    k.name,
    k.scope,
    k.scopes,
    s.organization_id,
    least(s.expires_at, k.expires_at),
    TRUE
FROM api_sessions AS s
INNER JOIN api_keys AS k ON s.key_id = k.id
WHERE
    s.token_sha256 = any($1::bytea [])
    AND s.expires_at > now()
    AND k.revoked_at IS NULL
    AND (k.expires_at > now()) IS NOT FALSE;

-- name: list_keys
-- A page of the keys, newest first, before an id; only their last characters are stored in clear text.
SELECT
    id,
    name,
    scope,
    scopes,
    organization_id,
    key_hint,
    created_at,
    expires_at,
    last_used_at,
    replaced_by,
    revoked_at
FROM api_keys
WHERE $1::uuid IS NULL OR id < $1
ORDER BY id DESC
LIMIT $2;

-- name: lock_key
-- A valid key, locked until the end of the transaction.
SELECT
    id,
    name,
    scope,
    scopes,
    organization_id,
    expires_at,
    replaced_by
FROM api_keys
WHERE id = $1 AND revoked_at IS NULL AND (expires_at > now()) IS NOT FALSE
FOR UPDATE;

-- name: replace_key
-- Let a key expire in favour of its successor, which takes its name.
UPDATE api_keys
SET replaced_by = $2, expires_at = least(expires_at, $3::timestamptz)
WHERE id = $1;

-- name: revoke_key
-- Revoke a key.
UPDATE api_keys
SET revoked_at = now()
WHERE id = $1 AND revoked_at IS NULL
RETURNING id;

-- name: record_uses
-- Record when keys were last used, in the order of their ids; at most once a minute per key.
WITH used AS (
    SELECT
        k.id,
        u.at
    FROM api_keys AS k
    INNER JOIN unnest($1::uuid [], $2::timestamptz []) AS u (id, at) ON k.id = u.id
    WHERE (k.last_used_at > u.at - $3::interval) IS NOT TRUE
    ORDER BY k.id
    FOR NO KEY UPDATE OF k SKIP LOCKED
)

UPDATE api_keys AS k
SET last_used_at = used.at
FROM used
WHERE k.id = used.id;

-- name: create_session
-- Create a browser session, stored by the digest of its token.
INSERT INTO api_sessions (id, token_sha256, organization_id, key_id, request_id, expires_at)
VALUES ($1, $2, $3, $4, $5, $6);

-- name: purge_sessions
-- Delete expired sessions, the oldest first; return how many.
WITH old AS (
    SELECT id
    FROM api_sessions
    WHERE expires_at < now() - $1::interval
    ORDER BY expires_at
    LIMIT $2
),

deleted AS (
    DELETE FROM api_sessions AS s
    USING old AS o
    WHERE s.id = o.id
    RETURNING s.id
)

SELECT count(*) FROM deleted;

-- name: record
-- Write an audit entry: who did what, to what, and why.
INSERT INTO audit_log (
    id,
    actor,
    action,
    subject,
    organization_id,
    reason,
    details,
    key_id,
    request_id
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: record_each
-- Write an audit entry for each of these subjects ($5): who did the same to all of them, and why.
INSERT INTO audit_log (
    id,
    actor,
    action,
    subject,
    reason,
    key_id,
    request_id
)
SELECT
    e.id,
    $2,
    $3,
    e.subject,
    $4,
    $6,
    $7
FROM unnest($1::uuid [], $5::text []) AS e (id, subject);

-- name: audit_entries
-- Entries of the audit log, newest first, after a cursor. The filters decide which index serves.
SELECT
    a.id,
    a.at,
    a.actor,
    a.action,
    a.subject,
    a.organization_id,
    a.reason,
    a.details,
    a.key_id,
    a.request_id
FROM audit_log AS a
WHERE
    ($1::uuid IS NULL OR a.organization_id = $1)
    AND ($2::text IS NULL OR a.actor = $2)
    AND ($3::timestamptz IS NULL OR a.at >= $3)
    AND ($4::timestamptz IS NULL OR (a.at, a.id) < ($4, $5::uuid))
ORDER BY a.at DESC, a.id DESC
LIMIT $6;

-- name: acts_on
-- What people did to one thing, newest first.
SELECT
    at,
    actor,
    action,
    reason
FROM audit_log
WHERE subject = $1
ORDER BY at DESC
LIMIT $2;

-- name: session_role
-- The database role that opened this connection.
SELECT session_user::text;
