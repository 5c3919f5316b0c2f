-- Verification goes on where it stopped, and holds more against the rows.

-- What a grant was opened with (ledger_terms_hash); NULL: an older release opened it, and the next verification
-- fills it in.
ALTER TABLE credit_grants ADD COLUMN terms_hash bytea;

-- Until which row a ledger has been verified, and the hash of that row then.
CREATE TABLE ledger_checkpoints (
    organization_id uuid PRIMARY KEY,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    verified_at timestamptz NOT NULL
);

-- Runs of the verification, each with the place that it has reached: another process goes on from there.
CREATE TABLE ledger_verifications (
    id uuid PRIMARY KEY,
    -- TRUE: every row of every ledger; FALSE: what is new since the checkpoints.
    whole boolean NOT NULL,
    -- The day of an incremental run that workers do, once for all of them.
    day date UNIQUE,
    phase text NOT NULL DEFAULT 'rows',
    after_organization_id uuid NOT NULL,
    after_seq bigint NOT NULL DEFAULT 0,
    organizations bigint NOT NULL DEFAULT 0,
    transactions bigint NOT NULL DEFAULT 0,
    problems jsonb NOT NULL DEFAULT '[]',
    started_at timestamptz NOT NULL DEFAULT now(),
    -- A run that has not been saved for some minutes has died.
    saved_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT ledger_verifications_phase_known CHECK (phase IN ('rows', 'accounts'))
);

CREATE INDEX ledger_verifications_by_age ON ledger_verifications (started_at DESC);
