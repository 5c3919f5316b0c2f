-- name: open_purchase
-- Record a purchase before Stripe hears of it.
INSERT INTO purchases (id, organization_id, amount_minor, currency)
VALUES ($1, $2, $3, $4);

-- name: keep_session
-- Remember the Checkout Session of a purchase.
UPDATE purchases
SET checkout_session_id = $2
WHERE id = $1;
