-- name: open_session
-- Store a session by the digest of its token.
INSERT INTO console_sessions (
    id,
    token_sha256,
    key_id,
    actor,
    role,
    organization_id,
    created_at,
    last_seen_at,
    expires_at
) VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8);

-- name: find_session
-- The session of a token, while neither it nor its key has ended.
SELECT
    s.id,
    s.key_id,
    s.actor,
    s.role,
    s.organization_id,
    s.created_at,
    s.last_seen_at,
    s.expires_at
FROM console_sessions AS s
LEFT JOIN api_keys AS k ON s.key_id = k.id
WHERE
    s.token_sha256 = $1
    AND s.expires_at > $2::timestamptz
    AND s.last_seen_at > $2::timestamptz - $3::interval
    AND k.revoked_at IS NULL
    AND (k.expires_at > $2::timestamptz) IS NOT FALSE;

-- name: see_session
-- Note that a session was used.
UPDATE console_sessions
SET last_seen_at = $2
WHERE id = $1;

-- name: end_session
-- Delete a session: its browser signed out.
DELETE FROM console_sessions
WHERE id = $1;

-- name: create_link
-- Store a sign-in link by the digest of its token.
INSERT INTO console_links (
    token_sha256,
    actor,
    role,
    organization_id,
    created_at,
    expires_at
) VALUES ($1, $2, $3, $4, $5, $6);

-- name: use_link
-- Use a link up: it works once.
DELETE FROM console_links
WHERE token_sha256 = $1 AND expires_at > $2
RETURNING
    actor,
    role,
    organization_id,
    NULL::uuid AS key_id;

-- name: purge
-- Delete expired sessions and links, the oldest first; return how many.
WITH old_sessions AS (
    SELECT id
    FROM console_sessions
    WHERE expires_at < now() - $1::interval
    ORDER BY expires_at
    LIMIT $2
),

old_links AS (
    SELECT token_sha256
    FROM console_links
    WHERE expires_at < now() - $1::interval
    ORDER BY expires_at
    LIMIT $2
),

deleted_sessions AS (
    DELETE FROM console_sessions AS s
    USING old_sessions AS o
    WHERE s.id = o.id
    RETURNING s.id
),

deleted_links AS (
    DELETE FROM console_links AS l
    USING old_links AS o
    WHERE l.token_sha256 = o.token_sha256
    RETURNING l.token_sha256
)

SELECT (SELECT count(*) FROM deleted_sessions) + (SELECT count(*) FROM deleted_links);
