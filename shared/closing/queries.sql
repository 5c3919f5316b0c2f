-- name: open_checkouts
-- The number of checkouts of an organization that can still be paid.
SELECT count(*)
FROM purchases
WHERE organization_id = $1 AND state = 'open';

-- name: active_holds
-- The first active holds of an organization to expire. Those whose time is over are released by their expiry.
SELECT id
FROM holds
WHERE organization_id = $1 AND status = 'active' AND expires_at > now()
ORDER BY expires_at
LIMIT $2;

-- name: charging_subscriptions
-- The number of subscriptions of an organization that Stripe goes on charging.
SELECT count(*)
FROM subscriptions
WHERE organization_id = $1 AND status IN ('active', 'trialing', 'past_due');
