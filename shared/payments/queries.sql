-- name: open_purchase
-- Record what is sold before Stripe is asked. A second try with the same id finds it as it was opened, or opens it
-- again where Stripe had refused it.
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
-- Close a purchase that Stripe has refused to offer.
UPDATE purchases
SET state = 'failed', settled_at = now()
WHERE id = $1 AND state = 'open' AND checkout_session_id IS NULL;

-- name: close_due
-- Close purchases that nobody has paid in time, the oldest first; return how many.
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
-- The organization has this Stripe customer no more.
UPDATE organizations
SET stripe_customer_id = NULL, updated_at = now()
WHERE id = $1 AND stripe_customer_id = $2;

-- name: lock_account
-- Take the account, before what hangs on it.
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
-- Remember the Checkout Session of a purchase.
UPDATE purchases
SET checkout_session_id = $2
WHERE id = $1;

-- name: open_purchase_of
-- The purchase of an organization that is open: the one of a Checkout Session, or the newest.
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
-- Where the receipt of an organization's payment is, if Stripe was asked before, and in whose account.
SELECT
    receipt_url,
    stripe_account
FROM stripe_payments
WHERE payment_intent_id = $1 AND organization_id = $2;

-- name: keep_receipt
-- Remember where the receipt of a payment is.
UPDATE stripe_payments
SET receipt_url = $2
WHERE payment_intent_id = $1;
