-- name: exactly
-- The organization with this id, slug or Stripe customer.
SELECT id
FROM organizations
WHERE id = $1 OR slug = $2 OR stripe_customer_id = $2
ORDER BY id
LIMIT 1;

-- name: listed
-- Up to $5 of the next $4 organizations, newest first, before an id; with a text in their name, slug or email, and a
-- state of auto-recharge.
SELECT
    o.id,
    o.slug,
    o.name,
    o.email,
    o.created_at,
    a.balance - a.expired AS balance,
    a.held,
    a.closed_at,
    coalesce(s.state, 'off') AS state,
    s.reason,
    s.suspended_until
FROM (
    SELECT
        id,
        slug,
        name,
        email,
        created_at
    FROM organizations
    WHERE id < $1
    ORDER BY id DESC
    LIMIT $4
) AS o
INNER JOIN accounts AS a ON o.id = a.organization_id
LEFT JOIN auto_recharges AS s ON o.id = s.organization_id
WHERE
    ($2::text IS NULL OR o.name ILIKE $2 OR o.slug ILIKE $2 OR o.email ILIKE $2)
    AND ($3::text IS NULL OR coalesce(s.state, 'off') = $3)
ORDER BY o.id DESC
LIMIT $5;

-- name: last_searched
-- The last of the next $2 organizations before an id; no row where there are fewer.
SELECT id
FROM organizations
WHERE id < $1
ORDER BY id DESC
LIMIT 1 OFFSET $2 - 1;
