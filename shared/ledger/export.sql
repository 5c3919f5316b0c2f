-- name: bounds
-- The last rows of an organization before two moments; NULL: before its first row, and its last.
SELECT
    after,
    last
FROM ledger_range($1, $2, $3);

-- name: page
-- The rows of an organization after a seq until another, oldest first, with the model of each.
SELECT
    t.*,
    (ledger_dimension('model', t.user_id, t.category, t.metadata))[1] AS model
FROM credit_transactions AS t
WHERE t.organization_id = $1 AND t.seq > $2 AND t.seq <= $3
ORDER BY t.seq;

-- name: history_of_values
-- The newest rows of an organization below a seq and above another, with these values of dimensions; NULL: any.
SELECT t.*
FROM credit_transactions AS t
WHERE
    t.organization_id = $1
    AND t.seq < $2
    AND t.seq > $3
    AND ($4::text IS NULL OR $4 = any(ledger_dimension('model', t.user_id, t.category, t.metadata)))
    AND ($5::text IS NULL OR t.user_id = $5)
    AND ($6::text IS NULL OR t.category = $6)
    AND ($7::text IS NULL OR $7 = any(ledger_dimension('key', t.user_id, t.category, t.metadata)))
    AND ($8::text IS NULL OR $8 = any(ledger_dimension('tag', t.user_id, t.category, t.metadata)))
ORDER BY t.seq DESC
LIMIT $9;
