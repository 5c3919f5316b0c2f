-- name: open_purchase
-- Record a purchase before Stripe is called. A retry with the same id returns it unchanged, or reopens it after a
-- refusal by Stripe.
INSERT INTO purchases AS p (id, organization_id, amount_minor, currency, credits, credits_per_unit, closes_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + $7::interval)
ON CONFLICT (id) DO UPDATE
    SET
        state = 'open',
        settled_at = NULL,
        closes_at = CASE WHEN p.state = 'open' THEN p.closes_at ELSE excluded.closes_at END
    WHERE p.state IN ('open', 'failed', 'expired')
RETURNING
    amount_minor,
    currency,
    closes_at;

-- name: refuse_purchase
-- Close a purchase whose Checkout Session Stripe refused.
UPDATE purchases
SET state = 'failed', settled_at = now()
WHERE id = $1 AND state = 'open' AND checkout_session_id IS NULL;

-- name: expire_purchases
-- Close purchases that were not paid in time, the oldest first; return how many.
WITH due AS (
    SELECT id
    FROM purchases
    WHERE state = 'open' AND closes_at <= now()
    ORDER BY closes_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
),

closed AS (
    UPDATE purchases AS p
    SET state = 'expired', settled_at = now()
    FROM due AS d
    WHERE p.id = d.id
    RETURNING p.id
)

SELECT count(*) FROM closed;

-- name: forget_customer
-- Unbind a Stripe customer that no longer exists.
UPDATE organizations
SET stripe_customer_id = NULL, updated_at = now()
WHERE id = $1 AND stripe_customer_id = $2;

-- name: lock_account
-- Lock the account before the rows that depend on it.
SELECT organization_id
FROM accounts
WHERE organization_id = $1
FOR UPDATE;

-- name: detach_cards
-- Detach every payment method of a Stripe customer.
UPDATE payment_methods
SET detached_at = now(), is_default = FALSE, as_of = greatest(as_of, now())
WHERE organization_id = $1 AND customer_id = $2 AND detached_at IS NULL;

-- name: keep_session
-- Store the Checkout Session of a purchase.
UPDATE purchases
SET checkout_session_id = $2
WHERE id = $1;

-- name: open_purchase_of
-- An organization's open purchase, by its Checkout Session or else the newest.
SELECT
    id,
    amount_minor,
    currency,
    checkout_session_id
FROM purchases
WHERE
    organization_id = $1
    AND state = 'open'
    AND ($2::text IS NULL OR checkout_session_id = $2)
ORDER BY created_at DESC, id DESC
LIMIT 1;

-- name: receipt
-- The stored URL of a payment's receipt, if any, and its Stripe account.
SELECT
    receipt_url,
    stripe_account
FROM stripe_payments
WHERE payment_intent_id = $1 AND organization_id = $2;

-- name: account_of
-- The Stripe account of a payment.
SELECT stripe_account
FROM stripe_payments
WHERE payment_intent_id = $1;

-- name: keep_receipt
-- Store the URL of a payment's receipt.
UPDATE stripe_payments
SET receipt_url = $2
WHERE payment_intent_id = $1;

-- name: claims
-- The binding of each payment, and the purchase or recharge attempt that it was opened for. An attempt is matched by
-- the organization and attempt ids in the metadata, or by its PaymentIntent. Each is an index look-up, not a join, so
-- that stale statistics cannot turn it into a scan.
SELECT
    r.ordinal::integer AS ordinal,
    b.organization_id AS bound_organization_id,
    b.amount_minor AS bound_minor,
    b.currency AS bound_currency,
    b.credits AS bound_credits,
    b.invoice_id AS bound_invoice_id,
    coalesce(s.organization_id, p.organization_id) AS purchase_organization_id,
    coalesce(s.amount_minor, p.amount_minor) AS purchase_minor,
    coalesce(s.currency, p.currency) AS purchase_currency,
    coalesce(s.credits, p.credits) AS purchase_credits,
    a.organization_id AS attempt_organization_id,
    a.amount_minor AS attempt_minor,
    a.currency AS attempt_currency,
    a.amount AS attempt_credits,
    a.trigger AS attempt_trigger
FROM unnest(
    $1::text [], $2::text [], $3::uuid [], $4::uuid [], $5::uuid []
) WITH ORDINALITY AS r (
    payment_intent_id, checkout_session_id, purchase_id, attempt_id, organization_id, ordinal
)
LEFT JOIN LATERAL (
    SELECT k.*
    FROM stripe_payments AS k
    WHERE k.payment_intent_id = r.payment_intent_id
    LIMIT 1
) AS b ON TRUE
LEFT JOIN LATERAL (
    SELECT k.*
    FROM purchases AS k
    WHERE k.checkout_session_id = r.checkout_session_id
    LIMIT 1
) AS s ON TRUE
LEFT JOIN LATERAL (
    SELECT k.*
    FROM purchases AS k
    WHERE k.id = r.purchase_id
    LIMIT 1
) AS p ON TRUE
LEFT JOIN LATERAL (
    SELECT f.*
    FROM (
        SELECT m.*
        FROM recharge_attempts AS m
        WHERE m.organization_id = r.organization_id AND m.id = r.attempt_id
        UNION ALL
        SELECT m.*
        FROM recharge_attempts AS m
        WHERE m.payment_intent_id = r.payment_intent_id
    ) AS f
    WHERE f.amount_minor IS NOT NULL
    LIMIT 1
) AS a ON TRUE;

-- name: payment_organizations
-- The organizations with one of these ids, slugs or Stripe customers.
SELECT
    id,
    slug,
    currency,
    stripe_customer_id,
    stripe_account
FROM organizations
WHERE id = any($1::uuid []) OR slug = any($2::text []) OR stripe_customer_id = any($3::text []);

-- name: bind_payments
-- Bind payments to organizations, each once; return those that were not bound before. The rows must be sorted:
-- concurrent transactions lock them in this order.
INSERT INTO stripe_payments (
    payment_intent_id,
    organization_id,
    amount_minor,
    net_minor,
    currency,
    credits,
    customer_id,
    charge_id,
    invoice_id,
    stripe_account
)
SELECT *
FROM unnest(
    $1::text [],
    $2::uuid [],
    $3::bigint [],
    $4::bigint [],
    $5::text [],
    $6::numeric [],
    $7::text [],
    $8::text [],
    $9::text [],
    $10::text []
)
ON CONFLICT (payment_intent_id) DO NOTHING
RETURNING
    payment_intent_id,
    organization_id,
    amount_minor,
    currency,
    credits,
    invoice_id;

-- name: bound_payments
-- Read the bindings of payments that were bound before. Each is an index look-up, even with stale statistics.
SELECT
    b.payment_intent_id,
    b.organization_id,
    b.amount_minor,
    b.currency,
    b.credits,
    b.invoice_id
FROM unnest($1::text []) AS r (payment_intent_id)
CROSS JOIN LATERAL (
    SELECT k.*
    FROM stripe_payments AS k
    WHERE k.payment_intent_id = r.payment_intent_id
    LIMIT 1
) AS b;

-- name: close_purchases
-- Close the purchases of these payments and sessions. Paid ones stay paid.
UPDATE purchases AS p
SET
    state = c.state,
    payment_intent_id = coalesce(c.payment_intent_id, p.payment_intent_id),
    settled_at = now()
FROM unnest($1::text [], $2::uuid [], $3::text [], $4::text []) AS c (
    checkout_session_id, purchase_id, payment_intent_id, state
)
WHERE
    (p.checkout_session_id = c.checkout_session_id OR p.id = c.purchase_id)
    AND p.state <> 'paid';

-- name: extend_purchase
-- Extend an open purchase whose bank payment is pending.
UPDATE purchases
SET closes_at = greatest(closes_at, $2)
WHERE checkout_session_id = $1 AND state = 'open';

-- name: lock_payment
-- Lock a payment for a change of its reversal level; return the time of the last applied answer.
SELECT
    organization_id,
    amount_minor,
    currency,
    credits,
    reversal_as_of
FROM stripe_payments
WHERE payment_intent_id = $1
FOR UPDATE;

-- name: record_level
-- Store the time of the answer whose level is applied.
UPDATE stripe_payments
SET reversal_as_of = $2, charge_id = coalesce(charge_id, $3)
WHERE payment_intent_id = $1;

-- name: invoice_organizations
-- Lock the organizations that an invoice names; if it names none, the one with its Stripe customer.
SELECT
    id,
    slug,
    currency
FROM organizations
WHERE
    id = any($1::uuid [])
    OR slug = any($2::text [])
    OR (cardinality($2::text []) = 0 AND stripe_customer_id = $3 AND stripe_account = $4)
ORDER BY id
FOR NO KEY UPDATE;
