-- name: count_listed
-- The number of rows of an organization, or ($1 is NULL) of all: seqs have no gaps.
SELECT coalesce(sum(last_seq), 0)::bigint
FROM accounts
WHERE $1::uuid IS NULL OR organization_id = $1;

-- name: find_listed
-- A row by its id, in any organization, with the expiry of its grant.
SELECT
    t.*,
    o.number,
    g.expires_at
FROM credit_transactions AS t
INNER JOIN organizations AS o ON t.organization_id = o.id
LEFT JOIN credit_grants AS g ON t.organization_id = g.organization_id AND t.seq = g.seq
WHERE t.id = $1;

-- name: list_of
-- An organization's rows from one seq down to another.
SELECT
    t.*,
    o.number,
    g.expires_at
FROM credit_transactions AS t
INNER JOIN organizations AS o ON t.organization_id = o.id
LEFT JOIN credit_grants AS g ON t.organization_id = g.organization_id AND t.seq = g.seq
WHERE t.organization_id = $1 AND t.seq <= $2 AND t.seq > $3
ORDER BY t.seq DESC;

-- name: list_all
-- A page of all organizations' rows, newest first: ids begin with the time. Earlier pages are skipped in the index.
SELECT *
FROM credit_transactions
ORDER BY id DESC
LIMIT $2 OFFSET $1;

-- name: numbers
-- The numbers of organizations.
SELECT
    id,
    number
FROM organizations
WHERE id = any($1::uuid []);

-- name: expiries
-- When the grants that these rows opened expire.
SELECT
    id,
    expires_at
FROM ledger_expiries($1::uuid [], $2::uuid []);

-- name: count_filtered
-- The number of rows of an organization, or ($1 is NULL) of all, that pass filters, which replace TRUE.
SELECT count(*)
FROM (
    SELECT *
    FROM credit_transactions
    WHERE $1::uuid IS NULL OR organization_id = $1
) AS t
INNER JOIN organizations AS o ON t.organization_id = o.id
LEFT JOIN credit_grants AS g ON t.organization_id = g.organization_id AND t.seq = g.seq
WHERE TRUE;

-- name: list_filtered
-- A page of all organizations' rows that pass filters, which replace TRUE.
SELECT
    t.*,
    o.number,
    g.expires_at
FROM credit_transactions AS t
INNER JOIN organizations AS o ON t.organization_id = o.id AND $1::uuid IS NULL
LEFT JOIN credit_grants AS g ON t.organization_id = g.organization_id AND t.seq = g.seq
WHERE TRUE
ORDER BY t.id DESC
LIMIT $3 OFFSET $2;

-- name: list_filtered_of
-- A page of an organization's rows that pass filters, which replace TRUE.
SELECT
    t.*,
    o.number,
    g.expires_at
FROM (
    SELECT *
    FROM credit_transactions
    WHERE organization_id = $1
) AS t
INNER JOIN organizations AS o ON t.organization_id = o.id
LEFT JOIN LATERAL (
    SELECT *
    FROM credit_grants
    WHERE organization_id = t.organization_id AND seq = t.seq
    OFFSET 0
) AS g ON TRUE
WHERE TRUE
ORDER BY t.seq DESC
LIMIT $3 OFFSET $2;
