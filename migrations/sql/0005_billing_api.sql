-- What the billing API keeps: the first answer for an Idempotency-Key, for a week.
CREATE TABLE idempotent_requests (
    -- The organization whose key it is; all zeros: a key of all organizations.
    tenant_id uuid NOT NULL,
    key text NOT NULL,
    digest bytea NOT NULL,
    -- Of whatever the request creates: a second try after a crash finds it again.
    id uuid NOT NULL,
    -- While the first try runs; when it died, another may go on from then.
    locked_until timestamptz NOT NULL,
    status smallint,
    answer bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key),
    CONSTRAINT idempotent_requests_answered_with_status CHECK (
        (status IS NULL) = (answer IS NULL)
    )
);

CREATE INDEX idempotent_requests_by_age ON idempotent_requests (created_at);

-- Filters by type look through what is not plain usage without reading the usage in between.
CREATE INDEX credit_transactions_not_usage ON credit_transactions (organization_id, seq DESC)
WHERE type NOT IN ('usage', 'hold_capture');

-- Lists of grants, newest first.
CREATE INDEX credit_grants_by_seq ON credit_grants (organization_id, seq);
