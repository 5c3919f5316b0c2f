-- name: lock_account
-- Take an organization's account before anything else of its auto-recharge.
--
-- One order of locks for all: the organization, a payment, the account, and only then cards, attempts and the
-- auto-recharge. A debit has the account when it arms an attempt, and waits there for whoever has just
-- written the one that lives; whoever that is must not want the account afterwards. So a transaction that
-- changes two of these, or inserts an attempt (its foreign key wants the account too), takes the account
-- first. One statement that changes an attempt alone needs nothing.
SELECT organization_id
FROM accounts
WHERE organization_id = $1
FOR NO KEY UPDATE;

-- name: rules_after
-- A page of the organizations that have a rule, whether or not it runs, in order of their ids.
SELECT organization_id
FROM auto_recharges
WHERE organization_id > $1
ORDER BY organization_id
LIMIT $2;

-- name: lock_due
-- Take the accounts for which the clock has something to do: a suspension that is over, a schedule that is
-- due, an attempt that should have been armed (a debit before the rule was saved, a wait that is over, a charge
-- that did not reach the threshold, a top-up that waits for its customer). For the last, it looks at the rules of
-- these organizations ($3) and at those whose wait ended in the last minute. In the order in which postings take
-- many; an account that another transaction has is left for the next time.
SELECT a.organization_id
FROM accounts AS a
WHERE a.organization_id IN (
    (
        SELECT s.organization_id
        FROM auto_recharges AS s
        WHERE s.state = 'suspended' AND s.suspended_until <= $1
        ORDER BY s.suspended_until
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
        FROM (
            SELECT unnest($3::uuid [])
            UNION ALL
            (
                SELECT w.organization_id
                FROM auto_recharges AS w
                WHERE
                    w.state = 'active'
                    AND w.not_before <= now()
                    AND w.not_before > now() - interval '1 minute'
                ORDER BY w.not_before DESC
                LIMIT $2
            )
        ) AS looked_at (organization_id)
        INNER JOIN auto_recharges AS s ON looked_at.organization_id = s.organization_id
        INNER JOIN accounts AS b ON s.organization_id = b.organization_id
        WHERE
            s.state = 'active'
            AND b.balance - b.expired - b.held < b.recharge_below
            AND NOT b.recharge_waits
            AND (s.not_before IS NULL OR s.not_before <= now())
            AND NOT EXISTS (
                SELECT FROM recharge_attempts AS r
                WHERE
                    r.organization_id = s.organization_id
                    AND r.state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
                    -- A top-up that waits for its customer gives way, unless it was told to already.
                    AND (r.trigger <> 'top_up' OR r.state <> 'requires_action' OR r.link_expires_at <= $1)
            )
    )
)
ORDER BY a.organization_id
FOR NO KEY UPDATE SKIP LOCKED;

-- name: suspend
-- Suspend an auto-recharge that may charge, or replace a reason that this one outranks ($6). While it is off, or
-- before there is a rule, a reason that only a person ends ($7) is held for when it is turned on. A row comes
-- back where it was suspended, or its reason replaced.
WITH suspended AS (
    INSERT INTO auto_recharges AS s (organization_id, state, held_reason, held_detail)
    SELECT
        $1,
        'off',
        CASE WHEN $7::boolean THEN $2::text END,
        CASE WHEN $7::boolean THEN $3::text END
    WHERE $7 OR EXISTS (SELECT FROM auto_recharges AS found WHERE found.organization_id = $1)
    ON CONFLICT (organization_id) DO UPDATE
    SET
        state = CASE s.state WHEN 'off' THEN 'off' ELSE 'suspended' END,
        reason = CASE WHEN s.state <> 'off' THEN $2 END,
        detail = CASE WHEN s.state <> 'off' THEN $3 END,
        suspended_until = CASE WHEN s.state <> 'off' THEN $4::timestamptz END,
        held_reason = CASE s.state WHEN 'off' THEN $2 END,
        held_detail = CASE s.state WHEN 'off' THEN $3 END,
        declined_fingerprint = coalesce($5, s.declined_fingerprint),
        updated_at = now()
    WHERE
        s.state IN ('active', 'paused_requires_action')
        OR (s.state = 'suspended' AND s.reason = any($6::text []))
        OR (s.state = 'off' AND $7 AND (s.held_reason IS NULL OR s.held_reason = any($6::text [])))
    RETURNING
        s.organization_id,
        s.state
)

UPDATE accounts AS a
SET recharge_below = NULL
FROM suspended AS s
WHERE a.organization_id = s.organization_id
RETURNING s.state;

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
        declines_in_row = CASE WHEN $3::boolean THEN 0 ELSE declines_in_row END,
        not_before = CASE WHEN $3::boolean THEN NULL ELSE not_before END,
        declined_fingerprint = CASE WHEN $3::boolean THEN NULL ELSE declined_fingerprint END,
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

-- name: end_wait
-- End the wait after a decline: another card is on file, and an armed attempt is due now.
WITH waited AS (
    UPDATE auto_recharges
    SET declines_in_row = 0, not_before = NULL, declined_fingerprint = NULL, updated_at = now()
    WHERE organization_id = $1 AND state IN ('active', 'paused_requires_action') AND declines_in_row > 0
    RETURNING organization_id
)

UPDATE recharge_attempts AS r
SET
    rung = TRUE,
    due_at = CASE WHEN r.lease_token IS NULL THEN now() ELSE r.due_at END
FROM waited AS w
WHERE r.organization_id = w.organization_id AND r.state = 'armed'
RETURNING pg_notify('prepaid_recharge', '');

-- name: expire_links_of_other_cards
-- End the link of an attempt that waits for its customer, where another card would be charged now: a worker
-- cancels its PaymentIntent. One that was authenticated just before succeeds.
UPDATE recharge_attempts AS r
SET
    rung = TRUE,
    link_expires_at = now(),
    due_at = CASE WHEN r.lease_token IS NULL THEN now() ELSE r.due_at END
FROM charged_methods AS c
WHERE
    r.organization_id = c.organization_id
    AND r.organization_id = $1
    AND r.state = 'requires_action'
    AND r.trigger <> 'top_up'
    AND r.link_expires_at > now()
    AND r.payment_method_id <> c.id
RETURNING pg_notify('prepaid_recharge', '');

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
RETURNING r.*;

-- name: take
-- Take one live attempt of an organization under a lease, unless a worker carries it.
UPDATE recharge_attempts
SET lease_token = $3, due_at = now() + $4::interval, rung = FALSE
WHERE
    organization_id = $1
    AND id = $2
    AND settled_at IS NULL
    AND (lease_token IS NULL OR due_at <= now())
RETURNING *;

-- name: renew
-- Keep a lease while its work goes on.
UPDATE recharge_attempts
SET due_at = now() + $4::interval
WHERE organization_id = $1 AND id = $2 AND lease_token = $3
RETURNING id;

-- name: circumstances
-- All that a decision looks at, as it is now. The caller has the account (see lock_account): two decisions of
-- one organization, or a decision and a change of settings, come one after the other.
SELECT
    s.*,
    a.balance - a.expired - a.held AS spendable,
    a.overdraft_limit,
    o.currency,
    p.id AS card_id,
    p.customer_id AS card_customer_id,
    p.type AS card_type,
    p.fingerprint AS card_fingerprint,
    p.stripe_account AS card_account,
    EXISTS (
        SELECT FROM payment_methods AS u
        WHERE
            u.organization_id = a.organization_id
            AND u.detached_at IS NULL
            AND u.mandate_active
            AND u.as_of = to_timestamp(0)
    ) AS card_undescribed,
    m.credits AS month_credits,
    m.count AS month_count
FROM accounts AS a
INNER JOIN organizations AS o ON a.organization_id = o.id
INNER JOIN auto_recharges AS s ON a.organization_id = s.organization_id
LEFT JOIN LATERAL (
    SELECT c.*
    FROM charged_methods AS c
    WHERE c.organization_id = a.organization_id
) AS p ON TRUE
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

-- name: begin
-- Store what an armed attempt is about to charge, before the first request to Stripe.
UPDATE recharge_attempts
SET
    state = 'charging',
    amount = $4,
    amount_minor = $5,
    currency = $6,
    customer_id = $7,
    payment_method_id = $8,
    payment_method_type = $9,
    charged_at = $10,
    stripe_account = $11,
    credits_per_unit = $12
WHERE organization_id = $1 AND id = $2 AND lease_token = $3 AND state = 'armed'
RETURNING *;

-- name: store_intent
-- Store the PaymentIntent: from here on it is the only one that this attempt ever confirms.
UPDATE recharge_attempts
SET payment_intent_id = $4
WHERE
    organization_id = $1
    AND id = $2
    AND lease_token = $3
    AND payment_intent_id IS NULL
RETURNING id;

-- name: store_decline
-- Store why a PaymentIntent is about to be canceled: whoever finds it canceled counts the decline.
UPDATE recharge_attempts
SET reason = $4, decline_code = $5, network_advice = $6
WHERE organization_id = $1 AND id = $2 AND lease_token = $3
RETURNING id;

-- name: transition
-- Move an attempt to a state and give its lease back: the one write by which an attempt changes its state, but for
-- `begin`. A live attempt is due again after a wait ($11), or when its customer's link expires; at once where it
-- was rung meanwhile. Only the first link is stored. Where Stripe stores a refusal under the idempotency key of its
-- PaymentIntent, the next one has another ($10).
UPDATE recharge_attempts
SET
    state = $4,
    reason = $5,
    detail = $6,
    decline_code = $7,
    network_advice = $8,
    blocked_by = $9,
    create_key = create_key + $10::smallint,
    due_at = CASE
        WHEN rung THEN now()
        WHEN $11::interval IS NOT NULL THEN now() + $11::interval
        ELSE coalesce(link_expires_at, $13::timestamptz, due_at)
    END,
    link_sha256 = coalesce(link_sha256, $12),
    link_expires_at = coalesce(link_expires_at, $13),
    settled_at = $14,
    lease_token = NULL
WHERE organization_id = $1 AND id = $2 AND lease_token = $3
RETURNING id;

-- name: pause
-- Nothing more is armed while the customer must act.
WITH paused AS (
    UPDATE auto_recharges
    SET state = 'paused_requires_action', updated_at = now()
    WHERE organization_id = $1 AND state = 'active'
    RETURNING organization_id
)

UPDATE accounts AS a
SET recharge_below = NULL
FROM paused AS p
WHERE a.organization_id = p.organization_id;

-- name: unpause
-- What the customer was to do is done, or cannot be done any more.
WITH resumed AS (
    UPDATE auto_recharges
    SET state = 'active', updated_at = now()
    WHERE organization_id = $1 AND state = 'paused_requires_action'
    RETURNING
        organization_id,
        threshold
)

UPDATE accounts AS a
SET recharge_below = r.threshold
FROM resumed AS r
WHERE a.organization_id = r.organization_id;

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

-- name: record_decline
-- Count a decline, and wait after it.
UPDATE auto_recharges
SET declines_in_row = $2, not_before = $3, updated_at = now()
WHERE organization_id = $1;

-- name: arm_low
-- Arm for those of these organizations whose balance is low, and for which nothing is to be waited for.
INSERT INTO recharge_attempts (organization_id, id, created_at)
SELECT
    a.organization_id,
    gen_random_uuid(),
    now()
FROM accounts AS a
INNER JOIN auto_recharges AS s ON a.organization_id = s.organization_id
WHERE
    a.organization_id = any($1::uuid [])
    AND s.state = 'active'
    AND a.balance - a.expired - a.held < a.recharge_below
    AND NOT a.recharge_waits
    AND (s.not_before IS NULL OR s.not_before <= now())
ON CONFLICT (organization_id)
WHERE state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
DO NOTHING;

-- name: expire_top_ups
-- End the links of top-ups that wait for their customers, where auto-recharge has something to charge meanwhile:
-- a worker cancels their PaymentIntents. One that was authenticated just before succeeds.
UPDATE recharge_attempts AS r
SET
    rung = TRUE,
    link_expires_at = $1,
    due_at = CASE WHEN r.lease_token IS NULL THEN now() ELSE r.due_at END
FROM accounts AS a
INNER JOIN auto_recharges AS s ON a.organization_id = s.organization_id
WHERE
    r.organization_id = a.organization_id
    AND r.organization_id = any($2::uuid [])
    AND a.organization_id = any($2::uuid [])
    AND r.state = 'requires_action'
    AND r.trigger = 'top_up'
    AND r.link_expires_at > $1
    AND s.state = 'active'
    AND a.balance - a.expired - a.held < a.recharge_below
    AND NOT a.recharge_waits
    AND (s.not_before IS NULL OR s.not_before <= now())
RETURNING pg_notify('prepaid_recharge', '');

-- name: scheduled
-- The schedules of these organizations that are due. Two workers at once: the second finds none.
SELECT
    organization_id,
    schedule,
    schedule_day
FROM auto_recharges
WHERE organization_id = any($2::uuid []) AND state = 'active' AND next_run_at <= $1
ORDER BY next_run_at;

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

-- name: end_suspensions
-- End the suspensions of these organizations whose time is over: a new month.
WITH resumed AS (
    UPDATE auto_recharges
    SET
        state = 'active',
        reason = NULL,
        detail = NULL,
        suspended_until = NULL,
        updated_at = now()
    WHERE organization_id = any($2::uuid []) AND state = 'suspended' AND suspended_until <= $1
    RETURNING
        organization_id,
        threshold
)

UPDATE accounts AS a
SET recharge_below = r.threshold
FROM resumed AS r
WHERE a.organization_id = r.organization_id;

-- name: lock
-- Take an organization for a change of its settings; the change of another waits.
SELECT id
FROM organizations
WHERE id = $1
FOR NO KEY UPDATE;

-- name: dismiss_reminder
-- Remember that nobody wants to be reminded of the missing cap any more.
UPDATE auto_recharges
SET reminder_dismissed_at = coalesce(reminder_dismissed_at, $2)
WHERE organization_id = $1
RETURNING organization_id;

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
    -- What is due stays due, whatever else of the rule changes.
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
    updated_at = now()
RETURNING state;

-- name: turn_off
-- Turn auto-recharge off. A live attempt is settled all the same. A suspension for one of these reasons is
-- kept for when it is turned on again.
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
-- Have the account of an organization follow its auto-recharge as it is saved: below which balance usage arms
-- an attempt (NULL: none), and below which it is low. A threshold of its own for `credits.low` comes first.
UPDATE accounts AS a
SET
    recharge_below = CASE s.state WHEN 'active' THEN s.threshold END,
    low_below = coalesce(a.low_balance_threshold, CASE WHEN s.state <> 'off' THEN s.threshold END)
FROM (SELECT $1::uuid AS id) AS o
LEFT JOIN auto_recharges AS s ON o.id = s.organization_id
WHERE a.organization_id = o.id;

-- name: set_low_balance_threshold
-- Set below which balance `credits.low` is announced; NULL: the threshold of auto-recharge.
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
-- Auto-recharges for a person: whose, what of the month is charged, and what lives now.
SELECT
    s.*,
    o.slug,
    o.currency,
    a.balance - a.expired AS balance,
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
    s.reminder_dismissed_at,
    a.low_balance_threshold
FROM organizations AS o
INNER JOIN accounts AS a ON o.id = a.organization_id
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

-- name: limit_overdraft
-- Say how far an organization may go below zero.
UPDATE accounts
SET overdraft_limit = $2
WHERE organization_id = $1;

-- name: waiting
-- The attempt of an organization that waits for its customer.
SELECT
    id,
    link_expires_at
FROM recharge_attempts
WHERE organization_id = $1 AND state = 'requires_action';

-- name: attempts
-- A page of an organization's attempts, newest first, after the moment and id of one.
SELECT *
FROM recharge_attempts
WHERE
    organization_id = $1
    AND (created_at, id) < (
        coalesce($3::timestamptz, 'infinity'),
        coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    )
ORDER BY created_at DESC, id DESC
LIMIT $2;

-- name: waiting_attempts
-- The attempts of an organization that wait for their customer.
SELECT *
FROM recharge_attempts
WHERE organization_id = $1 AND state = 'requires_action' AND link_expires_at > $2
ORDER BY created_at DESC;

-- name: find_attempt
-- An attempt of an organization.
SELECT *
FROM recharge_attempts
WHERE organization_id = $1 AND id = $2;

-- name: attempt_by_id
-- An attempt, whosever it is.
SELECT
    organization_id,
    id
FROM recharge_attempts
WHERE id = $1;

-- name: recent_declines
-- How often the method that would be charged has been declined in top-ups since a moment.
SELECT count(*)
FROM charged_methods AS c
INNER JOIN recharge_attempts AS r
    ON c.organization_id = r.organization_id AND c.id = r.payment_method_id
WHERE
    c.organization_id = $1
    AND r.trigger = 'top_up'
    AND r.state = 'failed'
    AND r.reason <> 'refused'
    AND r.settled_at > $2;

-- name: give_way
-- End an attempt that is only armed and that nobody carries: Stripe was asked nothing. A threshold that is still
-- crossed arms another later; a schedule is due again.
WITH given_way AS (
    UPDATE recharge_attempts
    SET
        state = 'canceled',
        reason = 'canceled',
        detail = 'the customer tops up by hand',
        settled_at = $2
    WHERE organization_id = $1 AND state = 'armed' AND lease_token IS NULL
    RETURNING
        organization_id,
        id,
        trigger
),

due_again AS (
    UPDATE auto_recharges AS s
    SET next_run_at = $2
    FROM given_way AS g
    WHERE s.organization_id = g.organization_id AND g.trigger = 'schedule' AND s.schedule IS NOT NULL
)

SELECT id
FROM given_way;

-- name: due_again
-- Have a schedule run again: its attempt ended for no reason of its own.
UPDATE auto_recharges
SET next_run_at = $2
WHERE organization_id = $1 AND schedule IS NOT NULL;

-- name: begin_top_up
-- Write down a charge that the customer asks for now, under the lease of whoever carries it. The card is the
-- one that a recharge would take. Nothing comes back where there is no card, or another attempt lives.
INSERT INTO recharge_attempts (
    organization_id,
    id,
    state,
    trigger,
    amount,
    amount_minor,
    currency,
    customer_id,
    payment_method_id,
    payment_method_type,
    stripe_account,
    credits_per_unit,
    created_at,
    charged_at,
    due_at,
    lease_token,
    tries,
    key_id
)
SELECT
    c.organization_id,
    $2,
    'charging',
    'top_up',
    $3,
    $4,
    $5,
    c.customer_id,
    c.id,
    c.type,
    c.stripe_account,
    $9,
    $6,
    $6,
    now() + $8::interval,
    $7,
    1,
    $10
FROM charged_methods AS c
WHERE c.organization_id = $1
ON CONFLICT DO NOTHING
RETURNING *;

-- name: top_ups_of_organization
-- What an organization was charged for by top-ups since a moment, or may still be. One that waits for its customer
-- is replaced by the next one.
SELECT
    count(*) AS count,
    coalesce(sum(amount_minor), 0)::bigint AS amount_minor
FROM recharge_attempts
WHERE
    organization_id = $1
    AND created_at >= $2
    AND trigger = 'top_up'
    AND state NOT IN ('failed', 'canceled')
    AND state <> 'requires_action';

-- name: top_ups_of_key
-- What top-ups by an API key were charged for since a moment, or may still be; likewise.
SELECT
    currency,
    count(*) AS count,
    sum(amount_minor)::bigint AS amount_minor
FROM recharge_attempts
WHERE
    key_id = $1
    AND created_at >= $3
    AND trigger = 'top_up'
    AND state NOT IN ('failed', 'canceled')
    AND NOT (organization_id = $2 AND state = 'requires_action')
GROUP BY currency;

-- name: lock_key
-- Let one top-up of an API key at a time be decided.
SELECT id
FROM api_keys
WHERE id = $1
FOR NO KEY UPDATE;

-- name: live
-- The attempt of an organization that lives, if one does.
SELECT *
FROM recharge_attempts
WHERE
    organization_id = $1
    AND state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown');

-- name: is_recharge
-- Whether auto-recharge made this payment.
SELECT EXISTS (
    SELECT FROM recharge_attempts
    WHERE organization_id = $1 AND payment_intent_id = $2 AND trigger <> 'top_up'
);

-- name: wait_for_usage
-- Arm nothing before the next usage: a person has canceled what was armed.
UPDATE accounts
SET recharge_waits = TRUE
WHERE organization_id = $1;

-- name: forget_customer
-- Forget a Stripe customer that Stripe does not know, so that the organization gets another.
UPDATE organizations
SET stripe_customer_id = NULL, updated_at = now()
WHERE id = $1 AND stripe_customer_id = $2;

-- name: detach_methods
-- Detach a payment method that Stripe does not know, or all of a customer that it does not know.
UPDATE payment_methods
SET detached_at = $4, is_default = FALSE
WHERE organization_id = $1 AND detached_at IS NULL AND (customer_id = $2 OR id = $3);

-- name: alert
-- Remember that Stripe refuses this installation for a cause; FALSE: that is known already.
INSERT INTO stripe_alerts (cause, detail, began_at, seen_at)
VALUES ($1, $2, $3, $3)
ON CONFLICT (cause) DO UPDATE
SET detail = excluded.detail, seen_at = excluded.seen_at
RETURNING xmax = 0 AS began;

-- name: alerts
-- Why Stripe refuses this installation, and how many attempts wait for that.
SELECT
    s.cause,
    s.detail,
    s.began_at,
    s.seen_at,
    (SELECT count(*) FROM recharge_attempts AS r WHERE r.blocked_by = s.cause) AS attempts
FROM stripe_alerts AS s
ORDER BY s.began_at, s.cause;

-- name: lock_alerts
-- Take the alerts that stand: one that comes meanwhile is not ended.
SELECT cause
FROM stripe_alerts
ORDER BY cause
FOR UPDATE;

-- name: end_alerts
-- End those of these alerts that no attempt waits for any more.
DELETE FROM stripe_alerts AS s
WHERE
    s.cause = any($1::text [])
    AND NOT EXISTS (SELECT FROM recharge_attempts AS r WHERE r.blocked_by = s.cause)
RETURNING
    s.cause,
    s.began_at;

-- name: has_method
-- Whether there is a payment method that could be charged.
SELECT EXISTS (SELECT FROM charged_methods WHERE organization_id = $1);

-- name: has_undescribed_method
-- Whether there is a payment method that can be charged once Stripe has said what it is.
SELECT EXISTS (
    SELECT FROM payment_methods
    WHERE organization_id = $1 AND detached_at IS NULL AND mandate_active AND as_of = to_timestamp(0)
);

-- name: renew_link
-- Give the page of an attempt a new address; the one before ends.
UPDATE recharge_attempts
SET link_sha256 = $3
WHERE organization_id = $1 AND id = $2 AND state = 'requires_action'
RETURNING link_expires_at;

-- name: by_link
-- The attempt whose page this is, whatever has become of it.
SELECT
    r.organization_id,
    r.id,
    r.state,
    r.link_expires_at,
    r.payment_method_type,
    r.amount_minor,
    r.currency,
    r.payment_intent_id,
    r.payment_method_id,
    r.stripe_account,
    o.name AS organization_name,
    p.brand,
    p.last4
FROM recharge_attempts AS r
INNER JOIN organizations AS o ON r.organization_id = o.id
LEFT JOIN payment_methods AS p ON r.payment_method_id = p.id
WHERE r.link_sha256 = $1;

-- name: suspended_for
-- Which of these organizations are suspended for a reason, in the order in which accounts are locked.
SELECT organization_id
FROM auto_recharges
WHERE organization_id = any($1::uuid []) AND state = 'suspended' AND reason = $2
ORDER BY organization_id;

-- name: has_open_inquiry
-- Whether a payment of an organization is under inquiry.
SELECT EXISTS (
    SELECT FROM stripe_disputes
    WHERE organization_id = $1 AND status LIKE 'warning%' AND closed_at IS NULL
);
