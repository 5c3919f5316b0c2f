-- Auto-recharge: what an organization agreed to, each attempt to charge, and the cards to charge.

-- What an organization agreed to. No row: it was never asked, so it is off.
CREATE TABLE auto_recharges (
    organization_id uuid PRIMARY KEY REFERENCES accounts (organization_id),
    state text NOT NULL DEFAULT 'off',
    -- Why it is suspended, and in words for a person.
    reason text,
    detail text,
    -- A suspension that ends by itself (a monthly cap) ends then.
    suspended_until timestamptz,
    -- Below this balance it recharges: by a fixed amount, or up to a target. All in credits.
    threshold numeric(38, 9),
    amount numeric(38, 9),
    target numeric(38, 9),
    -- Besides, or instead: a fixed amount every week (day 1 is Monday) or month (day 31 is its last).
    schedule text,
    schedule_day smallint,
    schedule_amount numeric(38, 9),
    next_run_at timestamptz,
    -- The most of a calendar month in UTC, in credits and in number, with what is in flight.
    monthly_cap numeric(38, 9),
    monthly_count_cap integer,
    pause_seconds_min integer NOT NULL DEFAULT 60,
    -- Declines since the last success or the last new card, and when it may charge again after one.
    declines_in_row smallint NOT NULL DEFAULT 0,
    not_before timestamptz,
    -- The card that was declined: another one clears the suspension.
    declined_fingerprint text,
    consented_at timestamptz,
    consented_by text,
    reminder_dismissed_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT auto_recharges_state_known CHECK (
        state IN ('off', 'active', 'paused_requires_action', 'suspended')
    ),
    CONSTRAINT auto_recharges_reason_known CHECK (
        reason IN (
            'declines', 'cap', 'dispute', 'fraud_warning', 'no_payment_method',
            'authentication_expired', 'charge_refused', 'customer_deleted', 'operator'
        )
    ),
    CONSTRAINT auto_recharges_suspended_with_reason CHECK (
        (state = 'suspended') = (reason IS NOT NULL)
    ),
    CONSTRAINT auto_recharges_on_with_consent CHECK (state = 'off' OR consented_at IS NOT NULL),
    CONSTRAINT auto_recharges_on_with_rule CHECK (
        state = 'off' OR threshold IS NOT NULL OR schedule IS NOT NULL
    ),
    CONSTRAINT auto_recharges_amount_or_target CHECK (
        (threshold IS NOT NULL) = (num_nonnulls(amount, target) = 1)
        AND num_nonnulls(amount, target) <= 1
    ),
    CONSTRAINT auto_recharges_amounts_positive CHECK (
        amount > 0 AND schedule_amount > 0 AND monthly_cap > 0 AND monthly_count_cap > 0
    ),
    CONSTRAINT auto_recharges_target_above_threshold CHECK (target > threshold),
    CONSTRAINT auto_recharges_schedule_known CHECK (
        CASE schedule
            WHEN 'weekly' THEN schedule_day BETWEEN 1 AND 7
            WHEN 'monthly' THEN schedule_day BETWEEN 1 AND 31
            ELSE schedule IS NULL AND schedule_day IS NULL
        END
    ),
    CONSTRAINT auto_recharges_schedule_with_amount CHECK (
        (schedule IS NULL) = (schedule_amount IS NULL)
    ),
    CONSTRAINT auto_recharges_pause_in_bounds CHECK (pause_seconds_min BETWEEN 0 AND 86400)
);

CREATE INDEX auto_recharges_scheduled ON auto_recharges (next_run_at)
WHERE state = 'active' AND next_run_at IS NOT NULL;

CREATE INDEX auto_recharges_ending ON auto_recharges (suspended_until)
WHERE suspended_until IS NOT NULL;

-- An attempt is armed without knowing what it will charge; that is decided when a worker takes it.
ALTER TABLE recharge_attempts
ADD COLUMN trigger text NOT NULL DEFAULT 'threshold',
ADD COLUMN amount numeric(38, 9),
ADD COLUMN amount_minor bigint,
ADD COLUMN currency text,
ADD COLUMN customer_id text,
ADD COLUMN payment_method_id text,
ADD COLUMN payment_method_type text,
ADD COLUMN payment_intent_id text,
-- When a worker may take it: now, at the end of a lease, at the end of a wait.
ADD COLUMN due_at timestamptz NOT NULL DEFAULT now(),
ADD COLUMN lease_token uuid,
-- Stripe has told of its payment since it was taken.
ADD COLUMN rung boolean NOT NULL DEFAULT FALSE,
ADD COLUMN tries integer NOT NULL DEFAULT 0,
ADD COLUMN charged_at timestamptz,
ADD COLUMN settled_at timestamptz,
-- Why it failed or was canceled.
ADD COLUMN reason text,
ADD COLUMN detail text,
ADD COLUMN decline_code text,
ADD COLUMN network_advice text,
-- The page on which the customer authenticates: one link at a time, known by its digest.
ADD COLUMN link_sha256 bytea,
ADD COLUMN link_expires_at timestamptz,
ADD CONSTRAINT recharge_attempts_trigger_known CHECK (
    trigger IN ('threshold', 'schedule', 'top_up')
),
ADD CONSTRAINT recharge_attempts_charged_with_amount CHECK (
    state IN ('armed', 'canceled')
    OR (
        amount > 0 AND amount_minor > 0 AND currency IS NOT NULL AND customer_id IS NOT NULL
        AND payment_method_id IS NOT NULL AND charged_at IS NOT NULL
    )
),
ADD CONSTRAINT recharge_attempts_payment_known CHECK (
    state NOT IN ('processing', 'requires_action', 'succeeded') OR payment_intent_id IS NOT NULL
),
ADD CONSTRAINT recharge_attempts_settled_with_moment CHECK (
    (state IN ('succeeded', 'failed', 'canceled')) = (settled_at IS NOT NULL)
),
ADD CONSTRAINT recharge_attempts_reason_given CHECK (
    state NOT IN ('failed', 'canceled') OR reason IS NOT NULL
),
ADD CONSTRAINT recharge_attempts_lease_only_while_live CHECK (
    lease_token IS NULL OR settled_at IS NULL
),
ADD CONSTRAINT recharge_attempts_payment_once UNIQUE (organization_id, payment_intent_id);

CREATE INDEX recharge_attempts_due ON recharge_attempts (due_at)
WHERE state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown');

CREATE INDEX recharge_attempts_by_payment ON recharge_attempts (payment_intent_id)
WHERE payment_intent_id IS NOT NULL;

CREATE INDEX recharge_attempts_by_month ON recharge_attempts (organization_id, charged_at)
WHERE charged_at IS NOT NULL;

CREATE INDEX recharge_attempts_by_link ON recharge_attempts (link_sha256)
WHERE link_sha256 IS NOT NULL;

-- A customer is told once when the balance falls below this, and once when nothing is left.
ALTER TABLE accounts ADD COLUMN low_below numeric(38, 9);

-- The customer's app was told that the grant will expire.
ALTER TABLE credit_grants ADD COLUMN expiry_told_at timestamptz;

CREATE INDEX credit_grants_expiry_untold ON credit_grants (expires_at)
WHERE NOT spent AND expires_at IS NOT NULL AND expiry_told_at IS NULL;

-- What Stripe keeps of a customer to charge without them. Stripe never attaches a detached one again.
CREATE TABLE payment_methods (
    id text PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations (id),
    customer_id text NOT NULL,
    type text NOT NULL,
    brand text,
    last4 text,
    exp_month smallint,
    exp_year smallint,
    -- The same for the same card, however often it is added.
    fingerprint text,
    is_default boolean NOT NULL DEFAULT FALSE,
    -- Stripe's moment of the newest event that said which is the default: this one, or another.
    default_as_of timestamptz,
    -- A bank debit needs a mandate; FALSE: it was taken back.
    mandate_id text,
    mandate_active boolean NOT NULL DEFAULT TRUE,
    detached_at timestamptz,
    -- Stripe's moment of the newest event that described it: an older one changes nothing.
    as_of timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT payment_methods_default_is_attached CHECK (NOT is_default OR detached_at IS NULL)
);

CREATE UNIQUE INDEX payment_methods_one_default ON payment_methods (organization_id)
WHERE is_default;

CREATE INDEX payment_methods_attached ON payment_methods (organization_id, as_of DESC)
WHERE detached_at IS NULL;

-- The subscription that an organization has beside its credits, as Stripe last told of it.
CREATE TABLE subscriptions (
    id text PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations (id),
    status text NOT NULL,
    plan text,
    started_at timestamptz,
    ends_at timestamptz,
    current_period_end timestamptz,
    as_of timestamptz NOT NULL
);

CREATE INDEX subscriptions_by_organization ON subscriptions (organization_id, started_at DESC);

-- When Stripe was last asked what a payment's refunds and disputes come to: an older answer is stale.
ALTER TABLE stripe_payments ADD COLUMN reversal_as_of timestamptz;

-- Disputes and fraud warnings, so that each is told of once when it opens and once when it closes.
CREATE TABLE stripe_disputes (
    id text PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations (id),
    payment_intent_id text NOT NULL,
    amount_minor bigint NOT NULL,
    currency text NOT NULL,
    status text NOT NULL,
    reason text,
    opened_at timestamptz NOT NULL,
    closed_at timestamptz
);

CREATE INDEX stripe_disputes_by_payment ON stripe_disputes (payment_intent_id);

-- Workers listen: an attempt is taken as soon as the debit that armed it has committed.
CREATE FUNCTION tell_recharge_workers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('prepaid_recharge', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER recharge_attempts_armed
AFTER INSERT ON recharge_attempts
FOR EACH ROW EXECUTE FUNCTION tell_recharge_workers();
