-- Organizations, their accounts, the append-only ledger, the Stripe inbox, keys and the audit log.

CREATE TABLE organizations (
    id uuid PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    name text NOT NULL,
    currency text NOT NULL DEFAULT 'usd',
    email text,
    stripe_customer_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- An event may name an organization by id or by slug, so that no slug may look like an id.
    CONSTRAINT organizations_slug_form CHECK (slug ~ '^[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?$'),
    CONSTRAINT organizations_slug_is_no_id
    CHECK (slug !~ '^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$'),
    CONSTRAINT organizations_name_length CHECK (length(name) BETWEEN 1 AND 200),
    CONSTRAINT organizations_currency_form CHECK (currency ~ '^[a-z]{3}$')
);

-- Partial on purpose: an index that a foreign key could point to would make every change of the column
-- wait for the rows that refer to the organization.
CREATE UNIQUE INDEX organizations_stripe_customer_once ON organizations (stripe_customer_id)
WHERE stripe_customer_id IS NOT NULL;

-- One row an organization, locked by every posting. Room on the page keeps its updates HOT.
CREATE TABLE accounts (
    organization_id uuid PRIMARY KEY REFERENCES organizations (id),
    -- Everything that the organization owns: what is left of its grants, less its debt.
    balance numeric(38, 9) NOT NULL DEFAULT 0,
    -- The part that active holds have reserved.
    held numeric(38, 9) NOT NULL DEFAULT 0,
    overdraft_limit numeric(38, 9) NOT NULL DEFAULT 0,
    -- All that was ever burned. A debit covers a range of it, and so does a burn segment.
    consumed numeric(38, 9) NOT NULL DEFAULT 0,
    -- The grant of the open burn segment.
    burning_grant_id uuid,
    -- When the next grant or hold expires.
    next_due_at timestamptz,
    -- Auto-recharge is armed by the debit that leaves less than this; NULL: it is off.
    recharge_below numeric(38, 9),
    last_seq bigint NOT NULL DEFAULT 0,
    last_hash bytea NOT NULL DEFAULT '\x',
    closed_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT accounts_held_not_negative CHECK (held >= 0),
    CONSTRAINT accounts_overdraft_not_negative CHECK (overdraft_limit >= 0),
    CONSTRAINT accounts_consumed_not_negative CHECK (consumed >= 0),
    CONSTRAINT accounts_seq_not_negative CHECK (last_seq >= 0)
) WITH (fillfactor = 50);

CREATE INDEX accounts_due ON accounts (next_due_at) WHERE next_due_at IS NOT NULL;

-- A row is a transfer between the organization and one system account, so that the whole ledger sums
-- to zero by construction. `amount` is what the organization gained (positive) or gave (negative).
CREATE TABLE credit_transactions (
    organization_id uuid NOT NULL REFERENCES accounts (organization_id),
    seq bigint NOT NULL,
    id uuid NOT NULL,
    type text NOT NULL,
    amount numeric(38, 9) NOT NULL,
    counterparty text NOT NULL,
    balance_after numeric(38, 9) NOT NULL,
    -- accounts.consumed after this row: a debit burned what lies between the row before it and this.
    consumed_after numeric(38, 9) NOT NULL,
    idempotency_key text NOT NULL,
    request_digest bytea NOT NULL,
    effective_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    description text,
    category text,
    quantity numeric(38, 9),
    user_id text,
    -- The grant that this row made, or took from directly (expiration, void).
    grant_id uuid,
    hold_id uuid,
    payment_intent_id text,
    metadata jsonb,
    hash bytea NOT NULL,
    PRIMARY KEY (organization_id, seq),
    CONSTRAINT credit_transactions_key_once UNIQUE (organization_id, idempotency_key),
    CONSTRAINT credit_transactions_seq_from_one CHECK (seq >= 1),
    CONSTRAINT credit_transactions_type_known CHECK (
        type IN (
            'purchase', 'recharge', 'grant', 'bonus', 'usage', 'adjustment', 'refund', 'dispute',
            'dispute_reversal', 'expiration', 'void', 'hold_capture'
        )
    ),
    CONSTRAINT credit_transactions_sign_of_type CHECK (
        CASE
            WHEN type = 'adjustment' THEN amount <> 0
            WHEN type IN ('purchase', 'recharge', 'grant', 'bonus', 'dispute_reversal')
                THEN amount > 0
            ELSE amount < 0
        END
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

-- What a transfer asks for, on its way into the ledger. `repeated`: its key stands in the same batch before
-- it.
CREATE TYPE ledger_posting AS (
    organization_id uuid,
    id uuid,
    type text,
    amount numeric,
    counterparty text,
    key text,
    digest bytea,
    effective_at timestamptz,
    description text,
    category text,
    quantity numeric,
    user_id text,
    grant_id uuid,
    hold_id uuid,
    payment_intent_id text,
    metadata jsonb,
    priority smallint,
    promotional boolean,
    expires_at timestamptz,
    may_overdraw boolean,
    repeated boolean
);

-- A lot of credits: what a purchase, a recharge or a gift brought, and what is left of it.
CREATE TABLE credit_grants (
    organization_id uuid NOT NULL REFERENCES accounts (organization_id),
    id uuid NOT NULL,
    transaction_id uuid NOT NULL,
    seq bigint NOT NULL,
    original numeric(38, 9) NOT NULL,
    remaining numeric(38, 9) NOT NULL,
    priority smallint NOT NULL DEFAULT 50,
    promotional boolean NOT NULL,
    expires_at timestamptz,
    payment_intent_id text,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended_by text,
    -- The indexes below look at this, not at what remains: while it stays, an update of what remains
    -- touches no index.
    spent boolean NOT NULL GENERATED ALWAYS AS (remaining = 0) STORED,
    PRIMARY KEY (organization_id, id),
    CONSTRAINT credit_grants_remaining_in_bounds CHECK (remaining BETWEEN 0 AND original),
    CONSTRAINT credit_grants_original_positive CHECK (original > 0),
    CONSTRAINT credit_grants_priority_in_bounds CHECK (priority BETWEEN 0 AND 100),
    CONSTRAINT credit_grants_ended_with_nothing_left CHECK (ended_at IS NULL OR remaining = 0),
    CONSTRAINT credit_grants_ended_with_cause CHECK (
        (ended_at IS NULL) = (ended_by IS NULL) AND ended_by IN ('expiration', 'void')
    )
) WITH (fillfactor = 80);

-- The order in which grants burn: lower priority number, then soonest expiry, promotional before paid,
-- oldest.
CREATE INDEX credit_grants_burn_order ON credit_grants (
    organization_id, priority, expires_at, (NOT promotional), seq
) WHERE NOT spent;

CREATE INDEX credit_grants_expiring ON credit_grants (organization_id, expires_at)
WHERE NOT spent AND expires_at IS NOT NULL;

CREATE INDEX credit_grants_by_payment ON credit_grants (organization_id, payment_intent_id)
WHERE payment_intent_id IS NOT NULL;

-- Which grant paid for which range of the organization's consumption. The open one (`upper` is NULL)
-- reaches to accounts.consumed. A range that no segment covers is debt.
CREATE TABLE burn_segments (
    organization_id uuid NOT NULL REFERENCES accounts (organization_id),
    lower numeric(38, 9) NOT NULL,
    upper numeric(38, 9),
    grant_id uuid NOT NULL,
    PRIMARY KEY (organization_id, lower),
    FOREIGN KEY (organization_id, grant_id) REFERENCES credit_grants (organization_id, id),
    CONSTRAINT burn_segments_not_empty CHECK (upper > lower)
);

CREATE UNIQUE INDEX burn_segments_one_open ON burn_segments (organization_id)
WHERE upper IS NULL;

CREATE INDEX burn_segments_by_grant ON burn_segments (organization_id, grant_id);

-- A reservation. It moves nothing: it keeps others from spending what its capture will.
CREATE TABLE holds (
    organization_id uuid NOT NULL REFERENCES accounts (organization_id),
    id uuid NOT NULL,
    status text NOT NULL DEFAULT 'active',
    amount numeric(38, 9) NOT NULL,
    captured_amount numeric(38, 9) NOT NULL DEFAULT 0,
    idempotency_key text NOT NULL,
    request_digest bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    closed_at timestamptz,
    description text,
    PRIMARY KEY (organization_id, id),
    CONSTRAINT holds_key_once UNIQUE (organization_id, idempotency_key),
    CONSTRAINT holds_amount_positive CHECK (amount > 0),
    CONSTRAINT holds_status_known CHECK (status IN ('active', 'captured', 'released', 'expired')),
    CONSTRAINT holds_closed_with_moment CHECK ((status = 'active') = (closed_at IS NULL)),
    CONSTRAINT holds_captured_when_captured CHECK ((status = 'captured') = (captured_amount > 0))
);

CREATE INDEX holds_active ON holds (organization_id, expires_at) WHERE status = 'active';

-- What was used, by category and hour, so that a total does not read the ledger.
CREATE TABLE usage_totals (
    organization_id uuid NOT NULL REFERENCES accounts (organization_id),
    category text NOT NULL,
    hour timestamptz NOT NULL,
    quantity numeric(38, 9) NOT NULL,
    cost numeric(38, 9) NOT NULL,
    transactions bigint NOT NULL,
    PRIMARY KEY (organization_id, category, hour)
) WITH (fillfactor = 70);

-- A charge that auto-recharge makes. At most one lives for each organization.
CREATE TABLE recharge_attempts (
    organization_id uuid NOT NULL REFERENCES accounts (organization_id),
    id uuid NOT NULL,
    state text NOT NULL DEFAULT 'armed',
    created_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id),
    CONSTRAINT recharge_attempts_state_known CHECK (
        state IN (
            'armed', 'charging', 'processing', 'requires_action', 'unknown', 'succeeded',
            'failed', 'canceled'
        )
    )
);

CREATE UNIQUE INDEX recharge_attempts_one_live ON recharge_attempts (organization_id)
WHERE state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown');

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
    -- What refunds and disputes have taken back of the credits so far, and in how many steps.
    reversed numeric(38, 9) NOT NULL DEFAULT 0,
    reversals integer NOT NULL DEFAULT 0,
    customer_id text,
    charge_id text,
    receipt_url text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stripe_payments_reversed_in_bounds CHECK (reversed BETWEEN 0 AND credits),
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
