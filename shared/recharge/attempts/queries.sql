-- name: wake
-- Make the live attempts of these payments due now; a leased one when its lease ends. A cluster takes no now() inside
-- CASE: without a lease the later of the two is now(), which greatest() returns where the other is NULL.
UPDATE recharge_attempts
SET
    rung = TRUE,
    due_at = least(due_at, greatest(now(), CASE WHEN lease_token IS NOT NULL THEN 'infinity'::timestamptz END))
WHERE
    payment_intent_id = any($1::text [])
    AND state IN ('charging', 'processing', 'requires_action', 'unknown')
RETURNING organization_id;

-- name: moment
-- The moment of this transaction by PostgreSQL's clock, which others may be ahead of.
SELECT now();

-- name: notify_workers
-- Wake the workers that charge, once this transaction commits.
SELECT wake_recharge_workers();

-- name: due
-- The attempts that are due, the earliest first.
SELECT
    organization_id,
    id
FROM recharge_attempts
WHERE
    state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
    AND due_at <= now()
ORDER BY due_at
LIMIT $1;

-- name: claim
-- Lease an attempt of an organization if it is still due; `due_at` is then the end of the lease. One that another
-- transaction has locked is skipped.
UPDATE recharge_attempts AS r
SET
    lease_token = $3,
    due_at = now() + $4::interval,
    rung = FALSE,
    tries = r.tries + 1
WHERE
    r.organization_id = $1
    AND r.id = (
        SELECT d.id
        FROM recharge_attempts AS d
        WHERE
            d.organization_id = $1
            AND d.id = $2
            AND d.state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
            AND d.due_at <= now()
        FOR UPDATE SKIP LOCKED
    )
RETURNING r.*;

-- name: take
-- Lease one live attempt of an organization, unless it is leased.
UPDATE recharge_attempts
SET lease_token = $3, due_at = now() + $4::interval, rung = FALSE
WHERE
    organization_id = $1
    AND id = $2
    AND settled_at IS NULL
    AND (lease_token IS NULL OR due_at <= now())
RETURNING *;

-- name: renew
-- Extend a lease during its work.
UPDATE recharge_attempts
SET due_at = now() + $4::interval
WHERE organization_id = $1 AND id = $2 AND lease_token = $3
RETURNING id;

-- name: begin
-- Store the amount that an armed attempt charges, before the first request to Stripe.
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
-- Store the PaymentIntent: the only one that this attempt ever confirms.
UPDATE recharge_attempts
SET payment_intent_id = $4
WHERE
    organization_id = $1
    AND id = $2
    AND lease_token = $3
    AND payment_intent_id IS NULL
RETURNING id;

-- name: store_decline
-- Store a decline before its PaymentIntent is canceled, so that it is counted after a crash.
UPDATE recharge_attempts
SET reason = $4, decline_code = $5, network_advice = $6
WHERE organization_id = $1 AND id = $2 AND lease_token = $3
RETURNING id;

-- name: transition
-- Move an attempt to a state and release its lease: besides `begin`, the only statement that changes an attempt's
-- state. A live attempt is due again at a moment ($11), or when its customer's link expires; now ($15) if it was woken
-- meanwhile. Only the first link is stored. If Stripe stored a refusal under the idempotency key of the PaymentIntent,
-- the next request has another key ($10).
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
        WHEN rung THEN $15::timestamptz
        WHEN $11::timestamptz IS NOT NULL THEN $11
        ELSE coalesce(link_expires_at, $13::timestamptz, due_at)
    END,
    link_sha256 = coalesce(link_sha256, $12),
    link_expires_at = coalesce(link_expires_at, $13),
    settled_at = $14,
    lease_token = NULL
WHERE organization_id = $1 AND id = $2 AND lease_token = $3
RETURNING id;

-- name: arm_low
-- Arm attempts for those of these organizations whose balance is low and that have no reason to wait.
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
DO NOTHING
RETURNING organization_id;

-- name: waiting
-- The attempt of an organization that waits for its customer.
SELECT
    id,
    link_expires_at
FROM recharge_attempts
WHERE organization_id = $1 AND state = 'requires_action';

-- name: attempts
-- A page of an organization's attempts, newest first, after the time and id of one.
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
-- An attempt of any organization.
SELECT
    organization_id,
    id
FROM recharge_attempts
WHERE id = $1;

-- name: live
-- The live attempt of an organization, if there is one.
SELECT *
FROM recharge_attempts
WHERE
    organization_id = $1
    AND state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown');

-- name: is_recharge
-- Whether auto-recharge created this payment.
SELECT EXISTS (
    SELECT FROM recharge_attempts
    WHERE organization_id = $1 AND payment_intent_id = $2 AND trigger <> 'top_up'
);

-- name: wait_for_usage
-- Arm no attempts before the next usage, after a person has canceled one.
UPDATE accounts
SET recharge_waits = TRUE
WHERE organization_id = $1;

-- name: forget_customer
-- Unbind a customer that does not exist at Stripe, so that the organization gets another.
UPDATE organizations
SET stripe_customer_id = NULL, updated_at = now()
WHERE id = $1 AND stripe_customer_id = $2;

-- name: detach_methods
-- Detach a payment method, or all those of a customer, that does not exist at Stripe.
UPDATE payment_methods
SET detached_at = $4, is_default = FALSE
WHERE organization_id = $1 AND detached_at IS NULL AND (customer_id = $2 OR id = $3);

-- name: alert
-- Store an alert for a cause; FALSE: it exists already.
INSERT INTO stripe_alerts (cause, detail, began_at, seen_at)
VALUES ($1, $2, $3, $3)
ON CONFLICT (cause) DO UPDATE
SET detail = excluded.detail, seen_at = excluded.seen_at
RETURNING xmax = 0 AS began;

-- name: alerts
-- The alerts, each with the number of its waiting attempts.
SELECT
    s.cause,
    s.detail,
    s.began_at,
    s.seen_at,
    coalesce(r.attempts, 0) AS attempts
FROM stripe_alerts AS s
LEFT JOIN (
    SELECT
        blocked_by,
        count(*) AS attempts
    FROM recharge_attempts
    WHERE blocked_by IS NOT NULL
    GROUP BY blocked_by
) AS r ON s.cause = r.blocked_by
ORDER BY s.began_at, s.cause;

-- name: lock_alerts
-- Lock the current alerts, so that one that begins meanwhile does not end.
SELECT cause
FROM stripe_alerts
ORDER BY cause
FOR UPDATE;

-- name: end_alerts
-- End those of these alerts without waiting attempts.
DELETE FROM stripe_alerts AS s
WHERE
    s.cause = any($1::text [])
    AND s.cause NOT IN (
        SELECT r.blocked_by
        FROM recharge_attempts AS r
        WHERE r.blocked_by IS NOT NULL AND r.blocked_by = any($1::text [])
    )
RETURNING
    s.cause,
    s.began_at;

-- name: has_method
-- Whether there is a payment method that could be charged.
SELECT EXISTS (SELECT FROM charged_methods WHERE organization_id = $1);

-- name: has_undescribed_method
-- Whether there is a payment method that can be charged once its details are read from Stripe.
SELECT EXISTS (
    SELECT FROM payment_methods
    WHERE organization_id = $1 AND detached_at IS NULL AND mandate_active AND as_of = to_timestamp(0)
);

-- name: renew_link
-- Replace the link of an attempt's page.
UPDATE recharge_attempts
SET link_sha256 = $3
WHERE organization_id = $1 AND id = $2 AND state = 'requires_action'
RETURNING link_expires_at;

-- name: by_link
-- The attempt of a link, in any state, with the rule's threshold.
SELECT
    r.organization_id,
    r.id,
    r.state,
    r.trigger,
    r.created_at,
    r.amount,
    r.needed,
    r.link_expires_at,
    r.payment_method_type,
    r.amount_minor,
    r.currency,
    r.payment_intent_id,
    r.payment_method_id,
    r.stripe_account,
    o.name AS organization_name,
    p.brand,
    p.last4,
    s.threshold
FROM recharge_attempts AS r
INNER JOIN organizations AS o ON r.organization_id = o.id
LEFT JOIN payment_methods AS p ON r.payment_method_id = p.id
LEFT JOIN auto_recharges AS s ON r.organization_id = s.organization_id
WHERE r.link_sha256 = $1;

-- name: rule_changed_at
-- The last change of an organization's rule since a moment.
SELECT max(at)
FROM audit_log
WHERE organization_id = $1 AND action = 'recharge.configure' AND at >= $2;
