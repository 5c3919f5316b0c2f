-- name: accounts_page
-- A page of accounts, after one until another, each with its number of rows.
SELECT
    organization_id,
    last_seq
FROM accounts
WHERE organization_id > $1 AND organization_id <= $2
ORDER BY organization_id
LIMIT $3;

-- name: heads
-- The head of every ledger, in the order of the organizations.
SELECT
    organization_id,
    last_seq,
    last_hash
FROM accounts
WHERE last_seq > 0
ORDER BY organization_id;

-- name: with_unhashed_terms
-- Those of these organizations with grants that an older release opened.
SELECT DISTINCT organization_id
FROM credit_grants
WHERE organization_id = any($1::uuid []) AND terms_hash IS NULL;

-- name: fill_terms
-- Hash the terms of some grants of an organization that an older release opened, except those that are locked.
WITH unhashed AS (
    SELECT
        g.id,
        ledger_terms_hash(g.organization_id, g.id, g.priority, g.promotional, g.expires_at) AS hash
    FROM credit_grants AS g
    WHERE g.organization_id = $1 AND g.terms_hash IS NULL
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
)

UPDATE credit_grants AS g
SET terms_hash = u.hash
FROM unhashed AS u
WHERE g.organization_id = $1 AND g.id = u.id;

-- name: new_accounts
-- A page of accounts, after one, that have changed since they were verified; each with its last verified row.
SELECT
    a.organization_id,
    a.last_seq,
    coalesce(c.seq, 0) AS verified_seq
FROM accounts AS a
LEFT JOIN ledger_checkpoints AS c ON a.organization_id = c.organization_id
WHERE
    a.organization_id > $1
    AND (coalesce(c.seq, 0) <> a.last_seq OR a.updated_at > c.verified_at)
ORDER BY a.organization_id
LIMIT $2;

-- name: save_checkpoints
-- Record the row up to which ledgers are verified.
INSERT INTO ledger_checkpoints (organization_id, seq, hash, verified_at)
SELECT
    organization_id,
    seq,
    hash,
    now()
FROM unnest($1::uuid [], $2::bigint [], $3::bytea []) AS c (organization_id, seq, hash)
ORDER BY organization_id
ON CONFLICT (organization_id) DO UPDATE
SET
    seq = excluded.seq,
    hash = excluded.hash,
    verified_at = excluded.verified_at;

-- name: start
-- Record a run.
INSERT INTO ledger_verifications (id, whole, after_organization_id)
VALUES ($1, $2, $3)
RETURNING *;

-- name: start_of_day
-- Take the incremental run of a day: a new one, or an abandoned one.
INSERT INTO ledger_verifications AS v (id, whole, day, after_organization_id)
VALUES ($1, FALSE, $2, $3)
ON CONFLICT (day) DO UPDATE
SET saved_at = now()
WHERE v.finished_at IS NULL AND v.saved_at < now() - $4::interval
RETURNING *;

-- name: unfinished
-- Take the last whole run, if it did not end.
UPDATE ledger_verifications AS v
SET saved_at = now()
FROM (
    SELECT l.id
    FROM ledger_verifications AS l
    WHERE l.whole
    ORDER BY l.started_at DESC
    LIMIT 1
) AS newest
WHERE v.id = newest.id AND v.finished_at IS NULL
RETURNING v.*;

-- name: save
-- Save the progress of a run.
UPDATE ledger_verifications
SET
    phase = $2,
    after_organization_id = $3,
    after_seq = $4,
    organizations = $5,
    transactions = $6,
    problems = $7,
    saved_at = now(),
    finished_at = CASE WHEN $8::boolean THEN now() END
WHERE id = $1;

-- name: changed_heads
-- Those of these heads that the ledger no longer has: another hash, or no such row.
SELECT
    h.organization_id,
    h.seq,
    t.id
FROM unnest($1::uuid [], $2::bigint [], $3::bytea []) AS h (organization_id, seq, hash)
LEFT JOIN credit_transactions AS t ON h.organization_id = t.organization_id AND h.seq = t.seq
WHERE t.hash IS DISTINCT FROM h.hash
ORDER BY h.organization_id;
