-- Keys have a set of scopes, an expiry, a last use and a successor; their names are unique. Browsers have sessions.

-- `scope` stays for processes of the last release, which read it. A key that the last release still creates has no
-- `scopes`: it has those that its `scope` stands for.
ALTER TABLE api_keys
ADD COLUMN scopes text [],
ADD COLUMN expires_at timestamptz,
ADD COLUMN last_used_at timestamptz,
ADD COLUMN replaced_by uuid REFERENCES api_keys (id),
ADD CONSTRAINT api_keys_scopes_known CHECK (
    cardinality(scopes) > 0
    AND scopes <@ ARRAY['usage', 'purchases', 'grants', 'billing', 'read', 'admin']
);

-- Existing keys keep their rights.
UPDATE api_keys
SET
    scopes = CASE scope
        WHEN 'write' THEN ARRAY['usage', 'purchases', 'grants', 'billing', 'read']
        ELSE ARRAY[scope]
    END;

-- Of valid keys with one name, the oldest keeps it.
UPDATE api_keys AS k
SET name = left(k.name, 60) || ' ' || k.id
FROM (
    SELECT
        id,
        row_number() OVER (PARTITION BY name ORDER BY created_at, id) AS place
    FROM api_keys
    WHERE revoked_at IS NULL
) AS named
WHERE k.id = named.id AND named.place > 1;

-- A key that was rotated shares its name with its successor until it expires.
CREATE UNIQUE INDEX api_keys_valid_name ON api_keys (name)
WHERE revoked_at IS NULL AND replaced_by IS NULL;

-- All zeros stand for all organizations in `idempotent_requests`: no organization has that id.
ALTER TABLE organizations
ADD CONSTRAINT organizations_id_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000') NOT VALID;

-- A short-lived token for the browser of one organization, stored as its SHA-256 alone.
CREATE TABLE api_sessions (
    id uuid PRIMARY KEY,
    token_sha256 bytea NOT NULL UNIQUE,
    organization_id uuid NOT NULL REFERENCES organizations (id),
    key_id uuid NOT NULL REFERENCES api_keys (id),
    request_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

CREATE INDEX api_sessions_by_expiry ON api_sessions (expires_at);

-- Which key and which request an entry is of; both are empty for the command line and for workers.
ALTER TABLE audit_log
ADD COLUMN key_id uuid,
ADD COLUMN request_id text;

-- Which key asked for a top-up: daily limits count by key.
ALTER TABLE recharge_attempts ADD COLUMN key_id uuid;
