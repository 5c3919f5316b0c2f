-- The operator console: signed-in browsers and one-time sign-in links, both stored by digest alone.

CREATE TABLE console_sessions (
    id uuid PRIMARY KEY,
    token_sha256 bytea NOT NULL,
    -- The key that signed in; it ends with that key. NULL: a link of the command line.
    key_id uuid,
    actor text NOT NULL,
    role text NOT NULL,
    -- NULL: all organizations.
    organization_id uuid,
    created_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT console_sessions_token_once UNIQUE (token_sha256),
    CONSTRAINT console_sessions_key_known FOREIGN KEY (key_id) REFERENCES api_keys (id),
    CONSTRAINT console_sessions_organization_known FOREIGN KEY (organization_id) REFERENCES organizations (id),
    CONSTRAINT console_sessions_role_known CHECK (role IN ('view', 'operate')),
    CONSTRAINT console_sessions_expire_later CHECK (expires_at > created_at)
);

CREATE INDEX console_sessions_by_expiry ON console_sessions (expires_at);

CREATE TABLE console_links (
    token_sha256 bytea PRIMARY KEY,
    actor text NOT NULL,
    role text NOT NULL,
    organization_id uuid,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT console_links_organization_known FOREIGN KEY (organization_id) REFERENCES organizations (id),
    CONSTRAINT console_links_role_known CHECK (role IN ('view', 'operate')),
    CONSTRAINT console_links_expire_later CHECK (expires_at > created_at)
);

CREATE INDEX console_links_by_expiry ON console_links (expires_at);
