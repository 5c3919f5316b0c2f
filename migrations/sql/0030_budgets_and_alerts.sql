-- Budgets: limits on what a user, an API key, a category or a tag uses. Alerts: several thresholds of a balance.

-- Neither table refers to accounts: a budget is counted from the ledger before its account is locked.
CREATE TABLE budgets (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    subject_kind text NOT NULL,
    -- A user, a key, a category or a tag; `*`: each one by itself.
    subject text NOT NULL,
    window_kind text NOT NULL,
    limit_amount numeric(38, 9) NOT NULL,
    action text NOT NULL,
    -- Percentages of the limit at which `budget.reached` is announced.
    thresholds smallint [] NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    -- From then on it counts nothing: the cleaner deletes its counters, and then the row.
    removed_at timestamptz,
    CONSTRAINT budgets_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT budgets_subject_kind_known CHECK (subject_kind IN ('user', 'key', 'category', 'tag')),
    CONSTRAINT budgets_subject_length CHECK (length(subject) BETWEEN 1 AND 255),
    CONSTRAINT budgets_window_kind_known CHECK (window_kind IN ('hour', 'day', 'month', 'total')),
    CONSTRAINT budgets_limit_not_negative CHECK (limit_amount >= 0),
    CONSTRAINT budgets_action_known CHECK (action IN ('refuse', 'tell')),
    CONSTRAINT budgets_thresholds_in_bounds CHECK (
        cardinality(thresholds) <= 10 AND 1 <= ALL(thresholds) AND 100 >= ALL(thresholds)
    )
);

CREATE UNIQUE INDEX budgets_subject_once ON budgets (organization_id, subject_kind, subject, window_kind)
WHERE removed_at IS NULL;

CREATE INDEX budgets_removed ON budgets (removed_at) WHERE removed_at IS NOT NULL;

-- One row for each subject of a budget. A posting in a later window starts it from zero. Room on the page keeps
-- its updates HOT.
CREATE TABLE budget_counters (
    organization_id uuid NOT NULL,
    budget_id uuid NOT NULL,
    subject text NOT NULL,
    -- The end of the window that `used` is about, not included; `infinity` where it never ends.
    window_end timestamptz NOT NULL,
    used numeric(38, 9) NOT NULL,
    -- The part that active holds have reserved, of whatever window.
    held numeric(38, 9) NOT NULL,
    CONSTRAINT budget_counters_pkey PRIMARY KEY (organization_id, budget_id, subject),
    CONSTRAINT budget_counters_used_not_negative CHECK (used >= 0),
    CONSTRAINT budget_counters_held_not_negative CHECK (held >= 0)
) WITH (fillfactor = 50);

-- What the cleaner deletes next.
CREATE INDEX budget_counters_by_window ON budget_counters (window_end) WHERE held = 0;

-- What a posting or a hold adds to the budgets of its subjects.
CREATE TYPE ledger_budget_item AS (
    user_id text,
    category text,
    metadata jsonb,
    used numeric,
    held numeric
);

-- A counter before and after a posting, with its budget. `enforced`: no budget that names the subject replaces it.
CREATE TYPE ledger_budget_change AS (
    budget_id uuid,
    subject_kind text,
    subject text,
    window_kind text,
    window_end timestamptz,
    limit_amount numeric,
    refuses boolean,
    thresholds smallint [],
    enforced boolean,
    used_before numeric,
    held_before numeric,
    used numeric,
    held numeric
);

ALTER TABLE accounts
-- How many budgets it has: debits of an account without any read none.
ADD COLUMN budgets integer NOT NULL DEFAULT 0,
-- What the organization set; `low_below` is one more threshold.
ADD COLUMN alert_thresholds numeric(38, 9) [] NOT NULL DEFAULT '{}',
-- The highest threshold that is not announced as low, and the lowest that is. Both are NULL without a threshold, and
-- until the first change of an account that an older release wrote: `low_announced` is in their place then.
ADD COLUMN alert_below numeric(38, 9),
ADD COLUMN alert_above numeric(38, 9);

-- Whoever changes the thresholds, the next ones follow. What was announced as low stays so.
CREATE FUNCTION follow_alert_thresholds() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_above numeric := CASE
        WHEN old.alert_below IS NULL AND old.alert_above IS NULL AND old.low_announced THEN old.low_below
        ELSE old.alert_above
    END;
BEGIN
    SELECT
        max(t.threshold) FILTER (WHERE v_above IS NULL OR t.threshold < v_above),
        min(t.threshold) FILTER (WHERE t.threshold >= v_above)
    INTO new.alert_below, new.alert_above
    FROM unnest(array_append(new.alert_thresholds, new.low_below)) AS t (threshold);
    RETURN new;
END
$$;

CREATE TRIGGER accounts_alert_thresholds
BEFORE UPDATE OF low_below, alert_thresholds ON accounts
FOR EACH ROW EXECUTE FUNCTION follow_alert_thresholds();

ALTER TABLE webhook_endpoints
DROP CONSTRAINT webhook_endpoints_types_known,
ADD CONSTRAINT webhook_endpoints_types_known CHECK (
    types <@ ARRAY[
        'credits.low', 'credits.recovered', 'credits.depleted', 'credits.expiring', 'budget.reached',
        'purchase.completed', 'recharge.succeeded', 'recharge.failed', 'recharge.requires_action',
        'recharge.suspended', 'dispute.opened', 'dispute.closed'
    ]
);

ALTER TABLE outbound_messages
DROP CONSTRAINT outbound_messages_type_known,
ADD CONSTRAINT outbound_messages_type_known CHECK (
    type IN (
        'credits.low', 'credits.recovered', 'credits.depleted', 'credits.expiring', 'budget.reached',
        'purchase.completed', 'recharge.succeeded', 'recharge.failed', 'recharge.requires_action',
        'recharge.suspended', 'dispute.opened', 'dispute.closed'
    )
) NOT VALID;

-- A refusal says which budget refuses: what a function returns cannot be replaced in place.
DROP FUNCTION IF EXISTS ledger_post(jsonb, integer, integer);

DROP FUNCTION IF EXISTS ledger_lock_batch(jsonb, integer, integer);

DROP FUNCTION IF EXISTS ledger_post_each(ledger_posting [], integer [], uuid []);

DROP FUNCTION IF EXISTS ledger_deferred(ledger_posting [], text []);

DROP FUNCTION IF EXISTS ledger_plain_organizations(ledger_posting [], timestamptz);

DROP FUNCTION IF EXISTS ledger_post_organization(uuid, ledger_posting [], integer);

DROP FUNCTION IF EXISTS ledger_apply(accounts, ledger_posting, timestamptz);

DROP FUNCTION IF EXISTS ledger_announce_balance(accounts, numeric, uuid, timestamptz);

DROP FUNCTION IF EXISTS ledger_hold(uuid, uuid, numeric, timestamptz, text, bytea, text, text, text, jsonb);
