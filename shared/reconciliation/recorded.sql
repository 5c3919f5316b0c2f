-- name: stored_events
-- Which of these events are stored.
SELECT i.id
FROM unnest($1::text []) AS i (id)
WHERE EXISTS (
    SELECT
    FROM stripe_events AS e
    WHERE e.id = i.id
);

-- name: recorded_payments
-- What is recorded of payments, with the ledger row of each, and of the recharge attempts that they name.
SELECT
    r.payment_intent_id,
    b.organization_id,
    b.amount_minor,
    b.currency,
    b.credits,
    b.reversed,
    b.invoice_id,
    b.stripe_account,
    ledger_seq_of(b.organization_id, $4 || b.payment_intent_id) IS NOT NULL AS posted,
    o.id AS attempt_organization_id,
    a.state AS attempt_state,
    a.payment_intent_id AS attempt_payment_intent_id
FROM unnest($1::text [], $2::uuid [], $3::uuid []) WITH ORDINALITY AS r (
    payment_intent_id, organization_id, attempt_id, ordinal
)
LEFT JOIN LATERAL (
    SELECT k.*
    FROM stripe_payments AS k
    WHERE k.payment_intent_id = r.payment_intent_id
    LIMIT 1
) AS b ON TRUE
LEFT JOIN LATERAL (
    SELECT k.id
    FROM organizations AS k
    WHERE k.id = r.organization_id
    LIMIT 1
) AS o ON TRUE
LEFT JOIN LATERAL recharge_attempt(r.organization_id, r.attempt_id) AS a ON TRUE
ORDER BY r.ordinal;

-- name: dispute_statuses
-- The recorded status of disputes.
SELECT
    id,
    status
FROM stripe_disputes
WHERE id = any($1::text []);

-- name: save_seen
-- Remember which credited payments Stripe has.
INSERT INTO reconciliation_seen (run_id, payment_intent_id)
SELECT
    $1,
    s.id
FROM unnest($2::text []) AS s (id)
ON CONFLICT DO NOTHING;

-- name: credited_payments
-- The payments that were credited in a period, after a place in their order, and whether Stripe has them.
SELECT
    p.payment_intent_id,
    p.organization_id,
    p.amount_minor,
    p.currency,
    p.credits,
    p.reversed,
    p.invoice_id,
    p.stripe_account,
    p.created_at,
    s.run_id IS NOT NULL AS seen
FROM stripe_payments AS p
LEFT JOIN reconciliation_seen AS s ON s.run_id = $1 AND p.payment_intent_id = s.payment_intent_id
WHERE
    p.created_at >= $2
    AND p.created_at <= $3
    AND (p.created_at, p.payment_intent_id) > ($4, $5::text)
ORDER BY p.created_at, p.payment_intent_id
LIMIT $6;

-- name: open_disputes
-- Disputes that are recorded as open, with their payments, after one of them.
SELECT
    d.id,
    d.payment_intent_id,
    d.organization_id,
    d.status,
    p.stripe_account
FROM stripe_disputes AS d
INNER JOIN stripe_payments AS p ON d.payment_intent_id = p.payment_intent_id
WHERE d.closed_at IS NULL AND d.id > $1
ORDER BY d.id
LIMIT $2;

-- name: customers
-- Organizations with a Stripe customer, after one of them.
SELECT
    id,
    stripe_customer_id,
    stripe_account
FROM organizations
WHERE stripe_customer_id IS NOT NULL AND id > $1
ORDER BY id
LIMIT $2;

-- name: payment_methods
-- Payment methods by their ids, after one of them; those that are off file too, so that each page is read by the key.
SELECT
    id,
    organization_id,
    customer_id,
    type,
    stripe_account,
    detached_at IS NULL AS attached
FROM payment_methods
WHERE id > $1
ORDER BY id
LIMIT $2;

-- name: open_purchases
-- Purchases from before a moment that are not paid and have a Checkout Session, after a place in their order.
SELECT
    p.id,
    p.organization_id,
    p.checkout_session_id,
    p.closes_at,
    o.stripe_account
FROM purchases AS p
INNER JOIN LATERAL (
    SELECT k.stripe_account
    FROM organizations AS k
    WHERE k.id = p.organization_id
    LIMIT 1
) AS o ON TRUE
WHERE
    p.state = 'open'
    AND p.checkout_session_id IS NOT NULL
    AND p.created_at < $1
    AND (p.closes_at, p.id) > ($2, $3::uuid)
ORDER BY p.closes_at, p.id
LIMIT $4;
