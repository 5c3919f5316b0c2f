-- name: clock
-- PostgreSQL's clock, which all workers share, before a request to Stripe.
SELECT clock_timestamp();

-- name: save_disputes
-- Store disputes as Stripe has them; return which are new, which are newly closed, and which were an inquiry before.
-- The payment's lock serializes concurrent calls.
WITH known AS (
    SELECT
        id,
        status,
        closed_at
    FROM stripe_disputes
    WHERE id = any($3::text [])
)

INSERT INTO stripe_disputes AS d (
    organization_id,
    payment_intent_id,
    id,
    amount_minor,
    currency,
    status,
    reason,
    opened_at,
    closed_at
)
SELECT
    $1,
    $2,
    n.id,
    n.amount_minor,
    n.currency,
    n.status,
    n.reason,
    n.opened_at,
    CASE WHEN n.closed THEN now() END
FROM unnest(
    $3::text [],
    $4::bigint [],
    $5::text [],
    $6::text [],
    $7::text [],
    $8::timestamptz [],
    $9::boolean []
) AS n (id, amount_minor, currency, status, reason, opened_at, closed)
ORDER BY n.id
ON CONFLICT (id) DO UPDATE
    SET
        status = excluded.status,
        amount_minor = excluded.amount_minor,
        closed_at = coalesce(d.closed_at, excluded.closed_at)
RETURNING
    id,
    NOT EXISTS (SELECT FROM known AS k WHERE k.id = d.id) AS opened,
    closed_at IS NOT NULL
    AND NOT EXISTS (
        SELECT FROM known AS k WHERE k.id = d.id AND k.closed_at IS NOT NULL
    ) AS closed,
    EXISTS (
        SELECT FROM known AS k WHERE k.id = d.id AND k.status LIKE 'warning%'
    ) AS was_inquiry;

-- name: save_fraud_warning
-- Store a fraud warning of a known payment, once.
INSERT INTO stripe_disputes (
    organization_id,
    payment_intent_id,
    id,
    amount_minor,
    currency,
    status,
    reason,
    opened_at
)
SELECT
    p.organization_id,
    p.payment_intent_id,
    $1,
    p.amount_minor,
    p.currency,
    'early_fraud_warning',
    $4,
    $5
FROM stripe_payments AS p
WHERE p.payment_intent_id = $2 OR ($2 IS NULL AND p.charge_id = $3)
LIMIT 1
ON CONFLICT (id) DO NOTHING
RETURNING organization_id;

-- name: warned_organization
-- The organization whose payment a fraud warning is about.
SELECT organization_id
FROM stripe_payments
WHERE payment_intent_id = $1 OR ($1 IS NULL AND charge_id = $2)
LIMIT 1;

-- name: attempt_organization
-- The organization whose auto-recharge created a payment, by the payment's or the attempt's id.
SELECT organization_id
FROM recharge_attempts
WHERE payment_intent_id = $1 OR id = $2
LIMIT 1;

-- name: customer_organization
-- The organization in the metadata, else the one with this customer, else the one with this payment method or another
-- of this customer, on the same Stripe account. Its row lock serializes changes of its payment methods.
SELECT o.id
FROM organizations AS o
WHERE
    o.id IN (
        SELECT $1::uuid
        UNION ALL
        (SELECT n.id FROM organizations AS n WHERE n.slug = $2)
        UNION ALL
        (
            SELECT c.id
            FROM organizations AS c
            WHERE $2 IS NULL AND c.stripe_customer_id = $3 AND c.stripe_account = $5
        )
        UNION ALL
        (
            SELECT m.organization_id
            FROM payment_methods AS m
            WHERE $2 IS NULL AND m.id = $4 AND m.stripe_account = $5
        )
        UNION ALL
        (
            SELECT m.organization_id
            FROM payment_methods AS m
            WHERE
                $2 IS NULL
                AND m.customer_id = $3
                AND m.stripe_account = $5
                AND m.detached_at IS NULL
        )
    )
ORDER BY o.stripe_customer_id IS NOT DISTINCT FROM $3 DESC
LIMIT 1
FOR NO KEY UPDATE;

-- name: save_seen_payment_methods
-- Store payment methods of which only the id is known. Any description is newer.
INSERT INTO payment_methods AS m (
    id, organization_id, customer_id, type, mandate_id, stripe_account, as_of
)
SELECT
    s.id,
    s.organization_id,
    s.customer_id,
    s.type,
    s.mandate_id,
    s.stripe_account,
    to_timestamp(0)
FROM unnest($1::text [], $2::uuid [], $3::text [], $4::text [], $5::text [], $6::text []) AS s (
    id, organization_id, customer_id, type, mandate_id, stripe_account
)
ORDER BY s.id
ON CONFLICT (id) DO UPDATE
    SET mandate_id = excluded.mandate_id
    WHERE excluded.mandate_id IS NOT NULL AND m.mandate_id IS NULL;

-- name: stored_payment_methods
-- A payment method, and the organization's others with the same fingerprint.
SELECT
    id,
    customer_id,
    type,
    brand,
    last4,
    exp_month,
    exp_year,
    fingerprint,
    as_of,
    detached_at IS NOT NULL AS detached
FROM payment_methods
WHERE id = $1 OR (organization_id = $2 AND fingerprint = $3);

-- name: charged_method
-- The payment method that a charge would use now.
SELECT id
FROM charged_methods
WHERE organization_id = $1;

-- name: save_payment_method
-- Store a payment method's details, unless it is detached or newer details are stored. One of an erased organization is
-- stored as detached, without a description.
INSERT INTO payment_methods AS m (
    id,
    organization_id,
    customer_id,
    type,
    brand,
    last4,
    exp_month,
    exp_year,
    fingerprint,
    stripe_account,
    as_of,
    detached_at
)
SELECT
    $1::text,
    a.organization_id,
    $3::text,
    $4::text,
    CASE WHEN a.erased_at IS NULL THEN $5::text END,
    CASE WHEN a.erased_at IS NULL THEN $6::text END,
    CASE WHEN a.erased_at IS NULL THEN $7::smallint END,
    CASE WHEN a.erased_at IS NULL THEN $8::smallint END,
    CASE WHEN a.erased_at IS NULL THEN $9::text END,
    $10::text,
    $11::timestamptz,
    CASE WHEN a.erased_at IS NOT NULL THEN $11::timestamptz END
FROM accounts AS a
WHERE a.organization_id = $2
ON CONFLICT (id) DO UPDATE
    SET
        customer_id = excluded.customer_id,
        type = excluded.type,
        brand = excluded.brand,
        last4 = excluded.last4,
        exp_month = excluded.exp_month,
        exp_year = excluded.exp_year,
        fingerprint = excluded.fingerprint,
        stripe_account = excluded.stripe_account,
        as_of = excluded.as_of,
        detached_at = excluded.detached_at,
        is_default = m.is_default AND excluded.detached_at IS NULL
    WHERE m.detached_at IS NULL AND m.as_of <= excluded.as_of
RETURNING id;

-- name: detach_payment_method
-- Detach a payment method for good; an unknown one is stored as detached.
INSERT INTO payment_methods AS m (
    id,
    organization_id,
    customer_id,
    type,
    stripe_account,
    detached_at,
    as_of
)
VALUES ($1, $2, $3, $4, $5, $6, $6)
ON CONFLICT (id) DO UPDATE
    SET
        detached_at = excluded.detached_at,
        is_default = FALSE,
        as_of = greatest(m.as_of, excluded.as_of)
    WHERE m.detached_at IS NULL
RETURNING id;

-- name: detach_all
-- Detach all payment methods of a customer.
UPDATE payment_methods
SET detached_at = $4, is_default = FALSE, as_of = greatest(as_of, $4)
WHERE
    organization_id = $1
    AND customer_id = $2
    AND stripe_account = $3
    AND detached_at IS NULL;

-- name: forget_customer
-- Unbind a deleted Stripe customer from its organization.
UPDATE organizations
SET stripe_customer_id = NULL, stripe_account = '', updated_at = now()
WHERE id = $1 AND stripe_customer_id = $2 AND stripe_account = $3
RETURNING id;

-- name: claim_undescribed_payment_methods
-- Lease undescribed payment methods on file, so that one worker asks Stripe for each.
UPDATE payment_methods AS m
SET describe_after = now() + $2::interval
FROM (
    SELECT id
    FROM payment_methods
    WHERE as_of = to_timestamp(0) AND detached_at IS NULL AND describe_after <= now()
    ORDER BY describe_after
    LIMIT $1
    FOR NO KEY UPDATE SKIP LOCKED
) AS due
WHERE m.id = due.id
RETURNING
    m.organization_id,
    m.id AS payment_method_id,
    m.stripe_account AS account,
    m.created_at AS seen_at;

-- name: undescribed_payment_methods
-- An organization's undescribed payment methods on file.
SELECT
    organization_id,
    id AS payment_method_id,
    stripe_account AS account,
    created_at AS seen_at
FROM payment_methods
WHERE organization_id = $1 AND as_of = to_timestamp(0) AND detached_at IS NULL
ORDER BY created_at DESC, id
LIMIT $2;

-- name: lock_organization
-- Lock an organization before its payment methods.
SELECT id
FROM organizations
WHERE id = $1
FOR NO KEY UPDATE;

-- name: has_payment_method
-- Whether an organization has a payment method on file.
SELECT EXISTS (
    SELECT FROM payment_methods WHERE organization_id = $1 AND detached_at IS NULL
);

-- name: default_method
-- An organization's default payment method, and the time at which Stripe reported it.
SELECT
    max(default_as_of) AS as_of,
    max(id) FILTER (WHERE is_default) AS id
FROM payment_methods
WHERE organization_id = $1;

-- name: clear_default
-- Clear an organization's default payment method, as of this time.
UPDATE payment_methods
SET is_default = FALSE, default_as_of = $2
WHERE organization_id = $1;

-- name: set_default
-- Make a payment method the default, unless it is detached. Its details may be unknown.
INSERT INTO payment_methods AS m (
    id,
    organization_id,
    customer_id,
    type,
    is_default,
    default_as_of,
    stripe_account,
    as_of
)
VALUES ($1, $2, $3, 'unknown', TRUE, $4, $5, to_timestamp(0))
ON CONFLICT (id) DO UPDATE
    SET is_default = (m.detached_at IS NULL), default_as_of = excluded.default_as_of
    WHERE m.organization_id = excluded.organization_id;

-- name: save_mandate
-- Store a mandate. A revoked mandate is never reactivated; the bank issues a new one.
UPDATE payment_methods
SET
    mandate_active = CASE
        WHEN mandate_id = $2 THEN mandate_active AND $3
        ELSE $3
    END,
    mandate_id = $2
WHERE id = $1 AND stripe_account = $4
RETURNING organization_id;

-- name: stored_subscription
-- A stored subscription.
SELECT
    id AS subscription_id,
    status,
    plan,
    started_at,
    ends_at,
    current_period_end,
    as_of
FROM subscriptions
WHERE id = $1;

-- name: save_subscription
-- Store a subscription, unless a newer state is stored.
INSERT INTO subscriptions AS s (
    id,
    organization_id,
    status,
    plan,
    started_at,
    ends_at,
    current_period_end,
    as_of
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (id) DO UPDATE
    SET
        status = excluded.status,
        plan = excluded.plan,
        started_at = excluded.started_at,
        ends_at = excluded.ends_at,
        current_period_end = excluded.current_period_end,
        as_of = excluded.as_of
    WHERE
        s.as_of < excluded.as_of
        -- Of the same second: Stripe's answer wins; otherwise a cancellation is final.
        OR (s.as_of = excluded.as_of AND ($9 OR s.status <> 'canceled'));
