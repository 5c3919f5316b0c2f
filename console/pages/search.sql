-- name: organizations
-- Organizations by id, slug, Stripe customer or e-mail address, each by an index.
SELECT
    o.id,
    o.slug
FROM organizations AS o
WHERE
    o.id = $1::uuid
    OR o.slug = $2::text
    OR o.stripe_customer_id = $2
    OR (o.email IS NOT NULL AND o.email = $2)
LIMIT $3;

-- name: events
-- Events of Stripe by id: one for each account and mode.
SELECT
    e.id,
    e.type
FROM stripe_events AS e
WHERE e.id = $1
LIMIT $2;

-- name: payments
-- The organizations and payments of a PaymentIntent, a charge, a Checkout session or a dispute.
SELECT
    p.payment_intent_id,
    p.organization_id
FROM stripe_payments AS p
WHERE p.payment_intent_id = $1 OR (p.charge_id IS NOT NULL AND p.charge_id = $1)
UNION
SELECT
    s.payment_intent_id,
    s.organization_id
FROM purchases AS s
WHERE s.checkout_session_id = $1 OR s.payment_intent_id = $1
UNION
SELECT
    d.payment_intent_id,
    d.organization_id
FROM stripe_disputes AS d
WHERE d.id = $1
LIMIT $2;

-- name: others
-- The organizations of a subscription or of a payment method.
SELECT
    'subscription' AS kind,
    s.organization_id
FROM subscriptions AS s
WHERE s.id = $1
UNION ALL
SELECT
    'payment method',
    m.organization_id
FROM payment_methods AS m
WHERE m.id = $1
LIMIT $2;

-- name: credits_of_payments
-- The ledger rows that payments credited: the grants of their organizations lead to them.
SELECT
    t.id,
    t.organization_id,
    t.type
FROM unnest($1::uuid [], $2::text []) AS p (organization_id, payment_intent_id)
INNER JOIN credit_grants AS g
    ON p.organization_id = g.organization_id AND p.payment_intent_id = g.payment_intent_id
INNER JOIN credit_transactions AS t ON g.organization_id = t.organization_id AND g.seq = t.seq
ORDER BY t.organization_id, t.seq
LIMIT $3;

-- name: attempts
-- Recharge attempts by id or PaymentIntent.
SELECT
    a.id,
    a.organization_id,
    a.state
FROM recharge_attempts AS a
WHERE (a.id IS NOT NULL AND a.id = $1::uuid) OR a.payment_intent_id = $2::text
LIMIT $3;

-- name: transactions
-- A ledger row by id.
SELECT
    t.id,
    t.organization_id,
    t.type
FROM credit_transactions AS t
WHERE t.id = $1
LIMIT $2;

-- name: messages
-- An outbound message by id, for each endpoint.
SELECT
    m.id,
    m.organization_id,
    m.type
FROM outbound_messages AS m
WHERE m.id = $1
LIMIT $2;
