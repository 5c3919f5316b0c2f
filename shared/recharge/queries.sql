-- name: lock_account
-- Lock an organization's account before anything else of its auto-recharge.
--
-- Global lock order: organization, payment, account, and only then payment methods, attempts and the auto-recharge.
-- A debit holds the account when it arms an attempt, and may wait for a transaction that has just written the live
-- one; that transaction must not lock the account afterwards. So a transaction that changes two of these, or inserts
-- an attempt (whose foreign key locks the account too), locks the account first. A single statement that changes only
-- an attempt needs no other lock.
SELECT organization_id
FROM accounts
WHERE organization_id = $1
FOR NO KEY UPDATE;

-- name: circumstances
-- The current inputs of a decision besides the card. The caller holds the account's lock (see lock_account), so that decisions and
-- changes of settings of one organization are serialized.
SELECT
    s.*,
    a.balance - a.expired - a.held AS spendable,
    a.overdraft_limit,
    o.currency,
    m.credits AS month_credits,
    m.count AS month_count
FROM accounts AS a
INNER JOIN organizations AS o ON a.organization_id = o.id
INNER JOIN auto_recharges AS s ON a.organization_id = s.organization_id
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(r.amount), 0) AS credits,
        count(*) AS count
    FROM recharge_attempts AS r
    WHERE
        r.organization_id = a.organization_id
        AND r.charged_at >= $2
        AND r.trigger <> 'top_up'
        AND r.state NOT IN ('failed', 'canceled')
) AS m
WHERE a.organization_id = $1;

-- name: card
-- The card that would be charged now, and whether there is one whose details are not read from Stripe yet.
SELECT
    c.id,
    c.customer_id,
    c.type,
    c.stripe_account,
    EXISTS (
        SELECT FROM payment_methods AS u
        WHERE
            u.organization_id = o.id
            AND u.detached_at IS NULL
            AND u.mandate_active
            AND u.as_of = to_timestamp(0)
    ) AS undescribed
FROM (SELECT $1::uuid AS id) AS o
LEFT JOIN charged_methods AS c ON o.id = c.organization_id;

-- name: lock
-- Lock an organization for a change of its settings.
SELECT id
FROM organizations
WHERE id = $1
FOR NO KEY UPDATE;

-- name: dismiss_reminder
-- Store that the reminder of the missing cap was dismissed.
UPDATE auto_recharges
SET reminder_dismissed_at = coalesce(reminder_dismissed_at, $2)
WHERE organization_id = $1
RETURNING organization_id;

-- name: save
-- Save the rule of an organization, on or off. A suspension stays; one for the last reasons also survives turning
-- auto-recharge off.
INSERT INTO auto_recharges AS s (
    organization_id,
    state,
    threshold,
    amount,
    target,
    schedule,
    schedule_day,
    schedule_amount,
    next_run_at,
    monthly_cap,
    monthly_count_cap,
    pause_seconds_min,
    consented_at,
    consented_by
)
VALUES (
    $1,
    CASE WHEN $14::boolean THEN 'active' ELSE 'off' END,
    $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13
)
ON CONFLICT (organization_id) DO UPDATE
SET
    state = CASE
        WHEN NOT $14 THEN 'off'
        WHEN s.state <> 'off' THEN s.state
        WHEN s.held_reason IS NOT NULL THEN 'suspended'
        ELSE 'active'
    END,
    reason = CASE WHEN $14 THEN coalesce(s.reason, CASE WHEN s.state = 'off' THEN s.held_reason END) END,
    detail = CASE WHEN $14 THEN coalesce(s.detail, CASE WHEN s.state = 'off' THEN s.held_detail END) END,
    suspended_until = CASE WHEN $14 THEN s.suspended_until END,
    held_reason = CASE
        WHEN $14 THEN NULL
        WHEN s.reason = any($15::text []) THEN s.reason
        ELSE s.held_reason
    END,
    held_detail = CASE
        WHEN $14 THEN NULL
        WHEN s.reason = any($15::text []) THEN s.detail
        ELSE s.held_detail
    END,
    threshold = excluded.threshold,
    amount = excluded.amount,
    target = excluded.target,
    schedule = excluded.schedule,
    schedule_day = excluded.schedule_day,
    schedule_amount = excluded.schedule_amount,
    -- A due schedule stays due when other settings change.
    next_run_at = CASE
        WHEN
            s.state <> 'off'
            AND s.schedule = excluded.schedule
            AND s.schedule_day = excluded.schedule_day
            THEN coalesce(s.next_run_at, excluded.next_run_at)
        ELSE excluded.next_run_at
    END,
    monthly_cap = excluded.monthly_cap,
    monthly_count_cap = excluded.monthly_count_cap,
    pause_seconds_min = excluded.pause_seconds_min,
    consented_at = coalesce(excluded.consented_at, s.consented_at),
    consented_by = coalesce(excluded.consented_by, s.consented_by),
    updated_at = excluded.updated_at
RETURNING state;

-- name: turn_off
-- Turn auto-recharge off. A live attempt still ends normally. A suspension for one of these reasons is
-- stored and applies when it is turned on again.
UPDATE auto_recharges
SET
    state = 'off',
    held_reason = CASE WHEN reason = any($2::text []) THEN reason ELSE held_reason END,
    held_detail = CASE WHEN reason = any($2::text []) THEN detail ELSE held_detail END,
    reason = NULL,
    detail = NULL,
    suspended_until = NULL,
    updated_at = now()
WHERE organization_id = $1 AND state <> 'off'
RETURNING organization_id;

-- name: follow
-- Copy the thresholds of the saved auto-recharge to the account: the balance below which usage arms an attempt
-- (NULL: none), and the one for `credits.low`, for which the account's own threshold takes precedence.
UPDATE accounts AS a
SET
    recharge_below = CASE WHEN s.state = 'active' THEN s.threshold END,
    low_below = coalesce(a.low_balance_threshold, CASE WHEN s.state <> 'off' THEN s.threshold END)
FROM (SELECT $1::uuid AS id) AS o
LEFT JOIN auto_recharges AS s ON o.id = s.organization_id
WHERE a.organization_id = o.id;

-- name: set_low_balance_threshold
-- Set the balance below which `credits.low` is announced; NULL: the threshold of auto-recharge.
UPDATE accounts
SET low_balance_threshold = $2
WHERE organization_id = $1;

-- name: settings
-- The auto-recharge of one organization, or of all in a state.
SELECT s.*
FROM auto_recharges AS s
WHERE
    ($1::uuid IS NULL OR s.organization_id = $1)
    AND ($2::text IS NULL OR s.state = $2)
ORDER BY s.organization_id
LIMIT $3;

-- name: overview
-- Auto-recharges for display: the organization and the live attempt.
SELECT
    s.*,
    o.slug,
    o.currency,
    a.balance - a.expired AS balance,
    l.id AS live_id,
    l.state AS live_state
FROM auto_recharges AS s
INNER JOIN organizations AS o ON s.organization_id = o.id
INNER JOIN accounts AS a ON s.organization_id = a.organization_id
LEFT JOIN recharge_attempts AS l
    ON
        s.organization_id = l.organization_id
        AND l.state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
WHERE
    ($1::uuid IS NULL OR s.organization_id = $1)
    AND ($2::text IS NULL OR s.state = $2)
ORDER BY s.updated_at DESC, s.organization_id
LIMIT $3;

-- name: month_charges
-- What auto-recharge has charged these organizations since a moment.
SELECT
    organization_id,
    sum(amount) AS credits,
    count(*) AS count
FROM recharge_attempts
WHERE
    organization_id = any($1::uuid [])
    AND charged_at >= $2
    AND trigger <> 'top_up'
    AND state NOT IN ('failed', 'canceled')
GROUP BY organization_id;

-- name: billing
-- An organization's billing settings besides its balance: the card that would be charged, and the current subscription.
SELECT
    o.email,
    o.stripe_customer_id,
    p.id AS payment_method_id,
    b.id AS subscription_id,
    b.status AS subscription_status,
    b.plan AS subscription_plan,
    b.started_at AS subscription_started_at,
    b.ends_at AS subscription_ends_at,
    b.current_period_end AS subscription_current_period_end
FROM organizations AS o
LEFT JOIN LATERAL (
    SELECT c.id
    FROM charged_methods AS c
    WHERE c.organization_id = o.id
) AS p ON TRUE
LEFT JOIN LATERAL (
    SELECT u.*
    FROM subscriptions AS u
    WHERE u.organization_id = o.id
    ORDER BY (u.status IN ('active', 'trialing', 'past_due')) DESC, u.started_at DESC NULLS LAST, u.id
    LIMIT 1
) AS b ON TRUE
WHERE o.id = $1;

-- name: billing_rule
-- An organization's billing settings of its auto-recharge and its account.
SELECT
    coalesce(s.state, 'off') AS state,
    s.reason,
    s.threshold,
    s.amount,
    s.target,
    s.monthly_cap,
    s.monthly_count_cap,
    coalesce(s.pause_seconds_min, 60) AS pause_seconds_min,
    s.reminder_dismissed_at,
    a.low_balance_threshold
FROM accounts AS a
LEFT JOIN auto_recharges AS s ON a.organization_id = s.organization_id
WHERE a.organization_id = $1;

-- name: limit_overdraft
-- Set how far an organization may go below zero.
UPDATE accounts
SET overdraft_limit = $2
WHERE organization_id = $1;
