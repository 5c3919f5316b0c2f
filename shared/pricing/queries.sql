-- name: assignments
-- The books of an organization, those to come among them.
SELECT
    name,
    valid_from
FROM price_assignments
WHERE organization_id = $1
ORDER BY valid_from;

-- name: discounts
-- The discounts of an organization, those to come among them.
SELECT
    pattern,
    percent,
    valid_from
FROM price_discounts
WHERE organization_id = $1
ORDER BY
    pattern,
    valid_from;

-- name: activations
-- When each version of a book becomes valid, those to come among them.
SELECT
    version,
    active_from
FROM price_book_activations
WHERE name = $1
ORDER BY active_from;

-- name: content
-- The content of a version.
SELECT content
FROM price_book_versions
WHERE name = $1 AND version = $2;

-- name: create_book
-- Create a book without a version, unless it exists.
INSERT INTO price_books (name)
VALUES ($1)
ON CONFLICT DO NOTHING;

-- name: lock_book
-- Lock a book, so that its versions and activations are added one after the other.
SELECT
    last_version,
    now() AS at
FROM price_books
WHERE name = $1
FOR NO KEY UPDATE;

-- name: version_of
-- The version of a book that has this content.
SELECT version
FROM price_book_versions
WHERE name = $1 AND digest = $2;

-- name: add_version
-- Store the next version of a book.
WITH book AS (
    UPDATE price_books
    SET last_version = last_version + 1
    WHERE name = $1
    RETURNING
        name,
        last_version
)

INSERT INTO price_book_versions (name, version, content, digest, prices, created_at, created_by)
SELECT
    book.name,
    book.last_version,
    $2,
    $3,
    $4,
    now(),
    $5
FROM book
RETURNING version;

-- name: activate
-- Make a version valid from a moment on; returns no row where another one begins then.
INSERT INTO price_book_activations (name, version, active_from, created_at, created_by)
VALUES ($1, $2, $3, now(), $4)
ON CONFLICT DO NOTHING
RETURNING version;

-- name: withdraw
-- Withdraw the activations of a book from a moment on.
DELETE FROM price_book_activations
WHERE name = $1 AND active_from >= $2
RETURNING
    version,
    active_from;

-- name: assign
-- Give an organization a book from a moment on; returns no row where another is given then.
INSERT INTO price_assignments (organization_id, name, valid_from, created_at, created_by)
VALUES ($1, $2, $3, now(), $4)
ON CONFLICT DO NOTHING
RETURNING name;

-- name: add_discount
-- Add a discount; returns no row where its pattern has another from that moment on.
INSERT INTO price_discounts (organization_id, pattern, valid_from, percent, created_at, created_by)
VALUES ($1, $2, $3, $4, now(), $5)
ON CONFLICT DO NOTHING
RETURNING pattern;

-- name: now
-- The time of the transaction.
SELECT now();

-- name: list_page
-- A page of versions by name, the newest of each first, each with its activations.
SELECT
    v.name,
    v.version,
    v.prices,
    v.created_at,
    v.created_by,
    array(
        SELECT a.active_from
        FROM price_book_activations AS a
        WHERE a.name = v.name AND a.version = v.version
        ORDER BY a.active_from
    ) AS active_from
FROM price_book_versions AS v
WHERE v.name > $1 OR (v.name = $1 AND v.version < $2)
ORDER BY
    v.name,
    v.version DESC
LIMIT $3;

-- name: versions
-- The versions of a book, newest first, or version $2 alone, each with its activations.
SELECT
    v.name,
    v.version,
    v.prices,
    v.created_at,
    v.created_by,
    array(
        SELECT a.active_from
        FROM price_book_activations AS a
        WHERE a.name = v.name AND a.version = v.version
        ORDER BY a.active_from
    ) AS active_from
FROM price_book_versions AS v
WHERE v.name = $1 AND ($2::integer IS NULL OR v.version = $2)
ORDER BY v.version DESC;
