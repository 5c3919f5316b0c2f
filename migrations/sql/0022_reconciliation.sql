-- Reconciliation: what Stripe has is compared with the ledger, in runs that end, stop or continue.

CREATE TABLE reconciliation_runs (
    id uuid PRIMARY KEY,
    -- report: compares only; preview: applies repairs and rolls them back; events: inserts and applies missing
    -- events, and reports the rest; repair: repairs what can be repaired.
    mode text NOT NULL,
    state text NOT NULL DEFAULT 'requested',
    requested_by text NOT NULL,
    reason text,
    -- worker: a worker takes it when it is due, and continues it if another one died; command: the command line.
    executor text NOT NULL,
    -- The schedule plans its next run; there is one such run at most that has not ended.
    scheduled boolean NOT NULL DEFAULT FALSE,
    due_at timestamptz NOT NULL DEFAULT now(),
    -- What was created at Stripe in this period is compared; NULL: until now.
    since timestamptz NOT NULL,
    until timestamptz,
    -- TRUE: every customer and payment method on file is compared too.
    whole boolean NOT NULL DEFAULT TRUE,
    -- For each list, the place that the run has reached: another process continues there.
    progress jsonb NOT NULL DEFAULT '{}',
    checked bigint NOT NULL DEFAULT 0,
    -- Lists that could not be compared, and why.
    problems jsonb NOT NULL DEFAULT '[]',
    -- Why it failed.
    detail text,
    requested_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    saved_at timestamptz,
    finished_at timestamptz,
    CONSTRAINT reconciliation_runs_mode_known CHECK (mode IN ('report', 'preview', 'events', 'repair')),
    CONSTRAINT reconciliation_runs_state_known CHECK (
        state IN ('requested', 'running', 'finished', 'failed', 'interrupted')
    ),
    CONSTRAINT reconciliation_runs_executor_known CHECK (executor IN ('worker', 'command')),
    CONSTRAINT reconciliation_runs_period CHECK (until >= since),
    CONSTRAINT reconciliation_runs_started_with_moment CHECK (
        state NOT IN ('running', 'finished') OR started_at IS NOT NULL
    ),
    CONSTRAINT reconciliation_runs_ended_with_moment CHECK (
        (state IN ('requested', 'running')) = (finished_at IS NULL)
    ),
    CONSTRAINT reconciliation_runs_failed_with_detail CHECK (state <> 'failed' OR detail IS NOT NULL)
);

CREATE INDEX reconciliation_runs_by_age ON reconciliation_runs (requested_at DESC, id DESC);

CREATE INDEX reconciliation_runs_open ON reconciliation_runs (due_at)
WHERE state IN ('requested', 'running');

CREATE INDEX reconciliation_runs_finished ON reconciliation_runs (finished_at DESC)
WHERE state = 'finished';

CREATE UNIQUE INDEX reconciliation_runs_one_scheduled ON reconciliation_runs (scheduled)
WHERE scheduled AND state IN ('requested', 'running');

-- A difference between Stripe and the ledger.
CREATE TABLE reconciliation_findings (
    run_id uuid NOT NULL REFERENCES reconciliation_runs (id) ON DELETE CASCADE,
    kind text NOT NULL,
    -- Stripe's id of the event, PaymentIntent, invoice, customer or payment method.
    object_id text NOT NULL,
    account text NOT NULL DEFAULT '',
    organization_id uuid REFERENCES organizations (id),
    -- found: reported only; repairable: a preview would repair it; repaired; refused: a person must act.
    outcome text NOT NULL,
    detail text NOT NULL,
    amount_minor bigint,
    currency text,
    -- What a repair posts or would post: positive adds.
    credits numeric(38, 9),
    found_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, kind, object_id),
    CONSTRAINT reconciliation_findings_kind_known CHECK (
        kind IN (
            'missing_event', 'charged_not_credited', 'credited_not_charged', 'reversed_not_recorded',
            'orphaned_payment_intent', 'customer_deleted', 'payment_method_gone'
        )
    ),
    CONSTRAINT reconciliation_findings_outcome_known CHECK (
        outcome IN ('found', 'repairable', 'repaired', 'refused')
    )
);

-- The credited payments that a run has seen at Stripe; those that it has not seen are retrieved one by one.
CREATE TABLE reconciliation_seen (
    run_id uuid NOT NULL REFERENCES reconciliation_runs (id) ON DELETE CASCADE,
    payment_intent_id text NOT NULL,
    PRIMARY KEY (run_id, payment_intent_id)
);
