-- name: claim
-- Take attempts that are due under a lease; `due_at` is then its end.
WITH due AS (
    SELECT
        organization_id,
        id
    FROM recharge_attempts
    WHERE
        state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
        AND due_at <= now()
    ORDER BY due_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)

UPDATE recharge_attempts AS r
SET
    lease_token = $2,
    due_at = now() + $3::interval,
    rung = FALSE,
    tries = r.tries + 1
FROM due AS d
WHERE r.organization_id = d.organization_id AND r.id = d.id
RETURNING
    r.organization_id,
    r.id,
    r.state,
    r.trigger,
    r.tries,
    r.amount,
    r.amount_minor,
    r.currency,
    r.customer_id,
    r.payment_method_id,
    r.payment_method_type,
    r.payment_intent_id,
    r.link_expires_at,
    r.reason,
    r.decline_code,
    r.network_advice;

-- name: lock_due
-- Take the accounts for which the clock has something to do: a suspension that is over, a schedule that is
-- due, an attempt that should have been armed (a debit before the rule was saved, a wait that is over, a charge
-- that did not reach the threshold). In the order in which postings take many.
SELECT a.organization_id
FROM accounts AS a
WHERE a.organization_id IN (
    (
        SELECT s.organization_id
        FROM auto_recharges AS s
        WHERE s.state = 'suspended' AND s.suspended_until <= $1
        LIMIT $2
    )
    UNION ALL
    (
        SELECT s.organization_id
        FROM auto_recharges AS s
        WHERE s.state = 'active' AND s.next_run_at <= $1
        ORDER BY s.next_run_at
        LIMIT $2
    )
    UNION ALL
    (
        SELECT s.organization_id
        FROM auto_recharges AS s
        INNER JOIN accounts AS b ON s.organization_id = b.organization_id
        WHERE
            s.state = 'active'
            AND b.balance < b.recharge_below
            AND (s.not_before IS NULL OR s.not_before <= now())
            AND NOT EXISTS (
                SELECT FROM recharge_attempts AS r
                WHERE
                    r.organization_id = s.organization_id
                    AND r.state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
            )
        LIMIT $2
    )
)
ORDER BY a.organization_id
FOR NO KEY UPDATE;

-- name: resume
-- Let a suspended auto-recharge charge again, if it is suspended for one of these reasons; one that is off is
-- not suspended for them any more when it is turned on.
WITH resumed AS (
    UPDATE auto_recharges
    SET
        state = CASE state WHEN 'suspended' THEN 'active' ELSE state END,
        reason = NULL,
        detail = NULL,
        suspended_until = NULL,
        declines_in_row = 0,
        not_before = NULL,
        declined_fingerprint = NULL,
        held_reason = NULL,
        held_detail = NULL,
        updated_at = now()
    WHERE
        organization_id = $1
        AND (
            (state = 'suspended' AND reason = any($2::text []))
            OR (state = 'off' AND held_reason = any($2::text []))
        )
    RETURNING
        organization_id,
        state,
        threshold
)

UPDATE accounts AS a
SET recharge_below = CASE r.state WHEN 'active' THEN r.threshold END
FROM resumed AS r
WHERE a.organization_id = r.organization_id
RETURNING a.organization_id;

-- name: ring
-- Have a worker look at the live attempts of these payments now; at one that is under a lease, as soon as
-- it is given back.
UPDATE recharge_attempts
SET
    rung = TRUE,
    due_at = CASE WHEN lease_token IS NULL THEN least(due_at, now()) ELSE due_at END
WHERE
    payment_intent_id = any($1::text [])
    AND state IN ('charging', 'processing', 'requires_action', 'unknown')
RETURNING pg_notify('prepaid_recharge', '');

-- name: postpone
-- Give an attempt back until a moment, in the state it is in now.
UPDATE recharge_attempts
SET
    state = $4,
    detail = $5,
    due_at = CASE WHEN rung THEN now() ELSE $6 END,
    lease_token = NULL
WHERE organization_id = $1 AND id = $2 AND lease_token = $3
RETURNING id;

-- name: require_action
-- Wait for the customer: for the first time with a link that expires, else with the one they have.
UPDATE recharge_attempts
SET
    state = 'requires_action',
    reason = 'authentication_required',
    detail = $4,
    link_sha256 = coalesce(link_sha256, $5),
    link_expires_at = coalesce(link_expires_at, $6),
    due_at = CASE WHEN rung THEN now() ELSE coalesce(link_expires_at, $6) END,
    lease_token = NULL
WHERE organization_id = $1 AND id = $2 AND lease_token = $3
RETURNING link_expires_at;

-- name: arm_scheduled
-- Arm a scheduled attempt; while another lives, the schedule waits and is looked at again.
WITH armed AS (
    INSERT INTO recharge_attempts (organization_id, id, trigger, created_at)
    VALUES ($1, $2, 'schedule', $3)
    ON CONFLICT (organization_id)
    WHERE state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
    DO NOTHING
    RETURNING organization_id
)

UPDATE auto_recharges AS s
SET next_run_at = CASE WHEN a.organization_id IS NULL THEN $3 + interval '1 minute' ELSE $4 END
FROM (SELECT $1::uuid AS id) AS o
LEFT JOIN armed AS a ON o.id = a.organization_id
WHERE s.organization_id = o.id;

-- name: record_success
-- A success clears the declines and what the customer was to do; the next charge waits for the pause.
WITH cleared AS (
    UPDATE auto_recharges
    SET
        state = CASE state WHEN 'paused_requires_action' THEN 'active' ELSE state END,
        declines_in_row = 0,
        declined_fingerprint = NULL,
        not_before = $2::timestamptz + make_interval(secs => pause_seconds_min),
        updated_at = now()
    WHERE organization_id = $1
    RETURNING
        organization_id,
        state,
        threshold
)

UPDATE accounts AS a
SET recharge_below = c.threshold
FROM cleared AS c
WHERE
    a.organization_id = c.organization_id
    AND c.state = 'active'
    AND a.recharge_below IS DISTINCT FROM c.threshold;

-- name: save
-- Save what an organization agreed to, on or off. A suspension stays: saving settings is no new card. One for
-- the last reasons outlasts off too.
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
    reason = CASE WHEN $14 THEN coalesce(s.reason, CASE s.state WHEN 'off' THEN s.held_reason END) END,
    detail = CASE WHEN $14 THEN coalesce(s.detail, CASE s.state WHEN 'off' THEN s.held_detail END) END,
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
    next_run_at = excluded.next_run_at,
    monthly_cap = excluded.monthly_cap,
    monthly_count_cap = excluded.monthly_count_cap,
    pause_seconds_min = excluded.pause_seconds_min,
    consented_at = coalesce(excluded.consented_at, s.consented_at),
    consented_by = coalesce(excluded.consented_by, s.consented_by),
    updated_at = now()
RETURNING state;

-- name: overview
-- Auto-recharges for a person: whose, what of the month is charged, and what lives now.
SELECT
    s.*,
    o.slug,
    o.currency,
    a.balance,
    m.credits AS month_credits,
    m.count AS month_count,
    l.id AS live_id,
    l.state AS live_state
FROM auto_recharges AS s
INNER JOIN organizations AS o ON s.organization_id = o.id
INNER JOIN accounts AS a ON s.organization_id = a.organization_id
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(r.amount), 0) AS credits,
        count(*) AS count
    FROM recharge_attempts AS r
    WHERE
        r.organization_id = s.organization_id
        AND r.charged_at >= $3
        AND r.trigger <> 'top_up'
        AND r.state NOT IN ('failed', 'canceled')
) AS m
LEFT JOIN recharge_attempts AS l
    ON
        s.organization_id = l.organization_id
        AND l.state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
WHERE
    ($1::uuid IS NULL OR s.organization_id = $1)
    AND ($2::text IS NULL OR s.state = $2)
ORDER BY s.updated_at DESC, s.organization_id
LIMIT $4;

-- name: billing
-- What an organization's billing settings show beside its balance: the card that would be charged, the
-- subscription that counts, and the auto-recharge.
SELECT
    o.email,
    o.stripe_customer_id,
    p.id AS payment_method_id,
    b.id AS subscription_id,
    b.status AS subscription_status,
    b.plan AS subscription_plan,
    b.started_at AS subscription_started_at,
    b.ends_at AS subscription_ends_at,
    b.current_period_end AS subscription_current_period_end,
    coalesce(s.state, 'off') AS state,
    s.reason,
    s.threshold,
    s.amount,
    s.target,
    s.monthly_cap,
    s.monthly_count_cap,
    coalesce(s.pause_seconds_min, 60) AS pause_seconds_min,
    s.reminder_dismissed_at
FROM organizations AS o
LEFT JOIN auto_recharges AS s ON o.id = s.organization_id
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
