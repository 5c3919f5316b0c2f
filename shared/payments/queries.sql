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
-- the organization and attempt ids in the metadata, or by its PaymentIntent: see payment_attempts. Bindings and
-- purchases are index look-ups, not joins, so that stale statistics cannot turn them into scans. With the first payment
-- come the organizations that the payments name by an id ($5, $6), a slug ($7) or a Stripe customer ($8).
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
    a.trigger AS attempt_trigger,
    o.organizations
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
LEFT JOIN payment_attempts($1::text [], $4::uuid [], $5::uuid []) AS a ON r.ordinal = a.ordinal
LEFT JOIN (
    SELECT
        jsonb_agg(
            jsonb_build_object(
                'id', n.id,
                'slug', n.slug,
                'currency', n.currency,
                'customer', n.stripe_customer_id,
                'account', n.stripe_account
            )
        ) AS organizations
    FROM organizations AS n
    WHERE n.id = any($6::uuid []) OR n.slug = any($7::text []) OR n.stripe_customer_id = any($8::text [])
) AS o ON r.ordinal = 1;

-- name: bind_payments
-- Bind payments to organizations, each once; return those that were not bound before.
SELECT
    payment_intent_id,
    organization_id,
    amount_minor,
    currency,
    credits,
    invoice_id
FROM bind_payments($1::text::jsonb);

-- name: credit
-- Bind payments and post their credits with all that belongs to it; no rows: one was bound meanwhile.
SELECT
    place,
    status,
    id,
    seq,
    amount,
    balance_after,
    created_at,
    held,
    available,
    budget
FROM credit_payments($1::text::jsonb, $2::text::jsonb, $3::text [], $4, $5::text::jsonb, $6::text::jsonb, $7);

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
SELECT close_purchases($1::text [], $2::uuid [], $3::text [], $4::text []);

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

-- name: invoice_organization
-- The organization that an invoice was credited to.
SELECT organization_id
FROM stripe_invoices
WHERE invoice_id = $1;

-- name: bind_invoice
-- Bind an invoice to the organization that it is credited to, once; no row: it was bound before.
INSERT INTO stripe_invoices (invoice_id, organization_id)
VALUES ($1, $2)
ON CONFLICT (invoice_id) DO NOTHING
RETURNING organization_id;
