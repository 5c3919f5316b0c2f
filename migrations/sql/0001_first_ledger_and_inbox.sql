-- Organizations, their accounts, the append-only ledger, the Stripe inbox, keys and the audit log.

CREATE TABLE organizations (
    id uuid PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    name text NOT NULL,
    currency text NOT NULL DEFAULT 'usd',
    email text,
    status text NOT NULL DEFAULT 'active',
    stripe_customer_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- An event may name an organization by id or by slug, so that no slug may look like an id.
    CONSTRAINT organizations_slug_form CHECK (slug ~ '^[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?$'),
    CONSTRAINT organizations_slug_is_no_id
    CHECK (slug !~ '^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$'),
    CONSTRAINT organizations_name_length CHECK (length(name) BETWEEN 1 AND 200),
    CONSTRAINT organizations_currency_form CHECK (currency ~ '^[a-z]{3}$'),
    CONSTRAINT organizations_status_known CHECK (status IN ('active', 'closed'))
);

-- Partial on purpose: an index that a foreign key could point to would make every change of the column
-- wait for the rows that refer to the organization.
CREATE UNIQUE INDEX organizations_stripe_customer_once ON organizations (stripe_customer_id)
WHERE stripe_customer_id IS NOT NULL;

-- One row an organization, locked by every posting. Room on the page keeps its updates HOT.
CREATE TABLE accounts (
    organization_id uuid PRIMARY KEY REFERENCES organizations (id),
    balance numeric(38, 9) NOT NULL DEFAULT 0,
    held numeric(38, 9) NOT NULL DEFAULT 0,
    overdraft_limit numeric(38, 9) NOT NULL DEFAULT 0,
    last_seq bigint NOT NULL DEFAULT 0,
    last_hash bytea NOT NULL DEFAULT '\x',
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT accounts_held_not_negative CHECK (held >= 0),
    CONSTRAINT accounts_overdraft_not_negative CHECK (overdraft_limit >= 0),
    CONSTRAINT accounts_seq_not_negative CHECK (last_seq >= 0)
) WITH (fillfactor = 50);

-- A row is a transfer between the organization and one system account, so that the whole ledger sums
-- to zero by construction. `amount` is what the organization gained (positive) or gave (negative).
CREATE TABLE credit_transactions (
    organization_id uuid NOT NULL REFERENCES organizations (id),
    seq bigint NOT NULL,
    id uuid NOT NULL,
    type text NOT NULL,
    amount numeric(38, 9) NOT NULL,
    counterparty text NOT NULL,
    balance_after numeric(38, 9) NOT NULL,
    idempotency_key text NOT NULL,
    request_digest bytea NOT NULL,
    effective_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    description text,
    payment_intent_id text,
    metadata jsonb NOT NULL DEFAULT '{}',
    hash bytea NOT NULL,
    PRIMARY KEY (organization_id, seq),
    CONSTRAINT credit_transactions_key_once UNIQUE (organization_id, idempotency_key),
    CONSTRAINT credit_transactions_seq_from_one CHECK (seq >= 1),
    CONSTRAINT credit_transactions_amount_not_zero CHECK (amount <> 0),
    CONSTRAINT credit_transactions_type_known CHECK (
        type IN (
            'purchase', 'recharge', 'grant', 'bonus', 'usage', 'adjustment', 'refund', 'dispute',
            'dispute_reversal', 'expiration', 'void', 'hold_capture'
        )
    ),
    CONSTRAINT credit_transactions_counterparty_known CHECK (
        counterparty IN ('stripe', 'promotions', 'revenue', 'breakage', 'adjustments')
    ),
    CONSTRAINT credit_transactions_key_length CHECK (length(idempotency_key) BETWEEN 1 AND 255)
);

CREATE INDEX credit_transactions_id ON credit_transactions (id);

CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % on % is refused', tg_op, tg_table_name
        USING ERRCODE = 'restrict_violation',
        HINT = 'Post an adjustment instead.';
END
$$;

CREATE TRIGGER credit_transactions_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON credit_transactions
FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change();

-- What Stripe sent, exactly as it was sent, and what became of it.
CREATE TABLE stripe_events (
    account text NOT NULL,
    livemode boolean NOT NULL,
    id text NOT NULL,
    type text NOT NULL,
    api_version text,
    stripe_created_at timestamptz NOT NULL,
    payload text NOT NULL,
    request_id text,
    received_at timestamptz NOT NULL DEFAULT now(),
    state text NOT NULL DEFAULT 'received',
    attempts integer NOT NULL DEFAULT 0,
    -- When the event may next be claimed: now for a new one, the end of the lease for a claimed one,
    -- the end of the backoff for a failed one. An expired lease needs no clean-up of its own.
    available_at timestamptz NOT NULL DEFAULT now(),
    lease_token uuid,
    settled_at timestamptz,
    organization_id uuid REFERENCES organizations (id),
    reason text,
    error_class text,
    error_trace text,
    PRIMARY KEY (id, account, livemode),
    CONSTRAINT stripe_events_state_known CHECK (
        state IN (
            'received', 'retrying', 'applied', 'ignored', 'dead', 'discarded', 'quarantined'
        )
    ),
    CONSTRAINT stripe_events_settled_with_moment CHECK (
        (state IN ('received', 'retrying')) = (settled_at IS NULL)
    ),
    CONSTRAINT stripe_events_lease_only_while_open CHECK (
        lease_token IS NULL OR state IN ('received', 'retrying')
    ),
    CONSTRAINT stripe_events_reason_given CHECK (
        state NOT IN ('ignored', 'dead', 'discarded', 'quarantined') OR reason IS NOT NULL
    )
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.05
);

-- A Stripe event has about 3 kB: keep it out of the line, uncompressed, so that neither the insert
-- nor the state changes after it pay for it.
ALTER TABLE stripe_events ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE INDEX stripe_events_claimable ON stripe_events (available_at)
WHERE state IN ('received', 'retrying');

CREATE INDEX stripe_events_by_state ON stripe_events (state, received_at DESC)
WHERE state IN ('dead', 'quarantined', 'retrying');

CREATE INDEX stripe_events_by_arrival ON stripe_events (received_at DESC, id DESC);

-- Event types whose handler keeps failing unexpectedly: they wait instead of filling the dead letters.
CREATE TABLE event_breakers (
    event_type text PRIMARY KEY,
    failures_in_row integer NOT NULL,
    paused_until timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- A purchase that was opened here, as a Stripe Checkout Session.
CREATE TABLE purchases (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations (id),
    state text NOT NULL DEFAULT 'open',
    amount_minor bigint NOT NULL,
    currency text NOT NULL,
    checkout_session_id text UNIQUE,
    payment_intent_id text UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    settled_at timestamptz,
    CONSTRAINT purchases_state_known CHECK (state IN ('open', 'paid', 'failed', 'expired')),
    CONSTRAINT purchases_settled_with_moment CHECK ((state = 'open') = (settled_at IS NULL)),
    CONSTRAINT purchases_amount_positive CHECK (amount_minor > 0)
);

-- A captured payment, bound to one organization by the first event that told of it. Whatever a later
-- event says, the same money is never credited to another.
CREATE TABLE stripe_payments (
    payment_intent_id text PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations (id),
    amount_minor bigint NOT NULL,
    currency text NOT NULL,
    credits numeric(38, 9) NOT NULL,
    customer_id text,
    charge_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stripe_payments_amount_positive CHECK (amount_minor > 0),
    CONSTRAINT stripe_payments_credits_positive CHECK (credits > 0)
);

CREATE INDEX stripe_payments_by_organization ON stripe_payments (organization_id, created_at);

-- A key is stored as its SHA-256 alone; 256 random bits need no slow hash.
CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    scope text NOT NULL,
    organization_id uuid REFERENCES organizations (id),
    key_sha256 bytea NOT NULL UNIQUE,
    key_hint text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    CONSTRAINT api_keys_scope_known CHECK (scope IN ('read', 'write', 'admin')),
    CONSTRAINT api_keys_name_length CHECK (length(name) BETWEEN 1 AND 100)
);

CREATE TABLE audit_log (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    organization_id uuid REFERENCES organizations (id),
    reason text,
    details jsonb NOT NULL DEFAULT '{}'
);

CREATE INDEX audit_log_by_subject ON audit_log (subject, at DESC);
