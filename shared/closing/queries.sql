-- name: open_checkouts
-- The number of checkouts of an organization that can still be paid.
SELECT count(*)
FROM purchases
WHERE organization_id = $1 AND state = 'open';

-- name: active_holds
-- The number of active holds of an organization, at most $2. Those whose time is over are released by their expiry.
SELECT count(*)
FROM (
    SELECT
    FROM holds
    WHERE organization_id = $1 AND status = 'active' AND expires_at > now()
    LIMIT $2
) AS h;

-- name: release_holds
-- Release the active holds of an organization.
SELECT ledger_release_all($1) AS released;

-- name: charging_subscriptions
-- The number of subscriptions of an organization that Stripe goes on charging.
SELECT count(*)
FROM subscriptions
WHERE organization_id = $1 AND status IN ('active', 'trialing', 'past_due');
