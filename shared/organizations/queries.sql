-- name: create
-- Create an organization; returns no row where its slug or id is taken.
INSERT INTO organizations (id, slug, name, currency, email)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: create_account
-- Open the organization's account.
INSERT INTO accounts (organization_id)
VALUES ($1);

-- name: by_reference
-- Find an organization by its id or its slug.
SELECT *
FROM organizations
WHERE id = $1 OR slug = $2;

-- name: list_page
-- A page of organizations, oldest first, after the last id seen.
SELECT
    o.*,
    a.balance - a.expired AS balance,
    a.held,
    a.closed_at
FROM organizations AS o
INNER JOIN accounts AS a ON o.id = a.organization_id
WHERE o.id > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000')
ORDER BY o.id
LIMIT $2;

-- name: currency_in_use
-- One of these currencies that an organization has, if any.
SELECT currency
FROM organizations
WHERE currency = any($1::text [])
LIMIT 1;

-- name: show
-- An organization with its balance and held credits.
SELECT
    o.*,
    a.balance - a.expired AS balance,
    a.held,
    a.closed_at
FROM organizations AS o
INNER JOIN accounts AS a ON o.id = a.organization_id
WHERE o.id = $1 OR o.slug = $2;

-- name: change
-- Update an organization; a NULL name or email stays unchanged.
UPDATE organizations
SET
    name = coalesce($2, name),
    email = CASE WHEN $4 THEN NULL ELSE coalesce($3, email) END,
    updated_at = now()
WHERE id = $1
RETURNING *;

-- name: closed_at
-- When an organization was closed; NULL while it is open.
SELECT closed_at
FROM accounts
WHERE organization_id = $1;

-- name: is_erased
-- Whether the personal data of an organization was erased.
SELECT erased_at IS NOT NULL
FROM accounts
WHERE organization_id = $1;

-- name: lock_open
-- When an organization was closed; it can be neither closed nor opened until the transaction ends.
SELECT closed_at
FROM accounts
WHERE organization_id = $1
FOR SHARE;

-- name: close
-- Close an organization; returns no row where it is closed.
UPDATE accounts
SET closed_at = now()
WHERE organization_id = $1 AND closed_at IS NULL
RETURNING organization_id;

-- name: reopen
-- Open a closed organization again; returns no row where it is open.
UPDATE accounts
SET closed_at = NULL
WHERE organization_id = $1 AND closed_at IS NOT NULL
RETURNING organization_id;

-- name: lock_without_customer
-- Lock those of these organizations that have no Stripe customer, before their accounts are locked: events store a
-- customer under this lock, and lock the account after it.
SELECT id
FROM organizations
WHERE id = any($1::uuid []) AND stripe_customer_id IS NULL
ORDER BY id
FOR NO KEY UPDATE;

-- name: set_customers
-- Set the Stripe customer of organizations that have none yet.
UPDATE organizations AS o
SET stripe_customer_id = k.customer_id, stripe_account = $3, updated_at = now()
FROM unnest($1::uuid [], $2::text []) AS k (organization_id, customer_id)
WHERE
    o.id = k.organization_id
    AND o.stripe_customer_id IS NULL
    AND NOT EXISTS (
        SELECT FROM organizations AS other
        WHERE other.stripe_customer_id = k.customer_id
    );
