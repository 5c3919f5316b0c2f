-- name: hold
-- Reserve an amount for some seconds, by the clock of the database.
SELECT
    r.status AS result,
    (r.hold).*,
    r.balance AS balance_now,
    r.held AS held_now,
    r.available AS available_now,
    r.budget
FROM ledger_hold($1, $2, $3, now() + make_interval(secs => $4), $5, $6::text::bytea, $7, $8, $9, $10) AS r;

-- name: release
-- End a hold without using what it still reserves: it is `released`, or `captured`.
SELECT
    r.status AS result,
    (r.hold).*
FROM ledger_release($1, $2, $3) AS r;

-- name: extend
-- Let a hold expire some seconds from now, by the clock of the database, or when it would have if that is later.
SELECT
    r.status AS result,
    (r.hold).*
FROM ledger_extend_hold($1, $2, now() + make_interval(secs => $3)) AS r;

-- name: page
-- A page of an organization's holds, newest first, before an id.
SELECT *
FROM holds
WHERE organization_id = $1 AND id < $2
ORDER BY id DESC
LIMIT $3;

-- name: page_in_state
-- A page of an organization's holds in a state, newest first, before an id.
SELECT *
FROM holds
WHERE organization_id = $1 AND id < $2 AND status = $3
ORDER BY id DESC
LIMIT $4;

-- name: find
-- A hold of an organization.
SELECT *
FROM holds
WHERE organization_id = $1 AND id = $2;

-- name: find_many
-- The holds of an organization with these ids: a look-up for each, not a join.
SELECT h.*
FROM unnest($2::uuid []) AS i (id)
CROSS JOIN LATERAL (
    SELECT *
    FROM holds
    WHERE organization_id = $1 AND id = i.id
    OFFSET 0
) AS h;

-- name: find_by_key
-- The hold of an organization with a key.
SELECT *
FROM holds
WHERE organization_id = $1 AND idempotency_key = $2;

-- name: find_replayed
-- The hold of an organization that was made under a key by the same request.
SELECT *
FROM holds
WHERE organization_id = $1 AND idempotency_key = $2 AND request_digest = $3::text::bytea;

-- name: closing_capture
-- The row of the capture that closed a hold: named by the hold, or by its key.
SELECT t.id
FROM credit_transactions AS t
WHERE t.organization_id = $1 AND t.idempotency_key = 'hold:' || $2::uuid || ':capture';
