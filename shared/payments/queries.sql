-- name: open_purchase
-- Record a purchase before Stripe hears of it; a second try with the same id finds it there.
INSERT INTO purchases (id, organization_id, amount_minor, currency)
VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO NOTHING;

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
-- Where the receipt of an organization's payment is, if Stripe was asked before.
SELECT receipt_url
FROM stripe_payments
WHERE payment_intent_id = $1 AND organization_id = $2;

-- name: keep_receipt
-- Remember where the receipt of a payment is.
UPDATE stripe_payments
SET receipt_url = $2
WHERE payment_intent_id = $1;
