-- name: open_checkouts
-- The number of checkouts of an organization that can still be paid.
SELECT count(*)
FROM purchases
WHERE organization_id = $1 AND state = 'open';

-- name: active_holds
-- The first active holds of an organization to expire.
SELECT id
FROM holds
WHERE organization_id = $1 AND status = 'active'
ORDER BY expires_at
LIMIT $2;

-- name: is_erased
-- Whether the personal data of an organization was erased.
SELECT erased_at IS NOT NULL
FROM accounts
WHERE organization_id = $1;
