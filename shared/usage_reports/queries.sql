-- name: setting
-- The dimensions of usage that an organization turned on.
SELECT
    usage_dimensions AS dimensions,
    usage_dimensions_since AS since
FROM accounts
WHERE organization_id = $1;

-- name: lock_setting
-- The same, locked: postings in progress end before it changes.
SELECT
    usage_dimensions AS dimensions,
    usage_dimensions_since AS since,
    greatest(updated_at, clock_timestamp()) AS now
FROM accounts
WHERE organization_id = $1
FOR UPDATE;

-- name: change_setting
-- Turn on these dimensions, and no others; NULL: none.
UPDATE accounts
SET usage_dimensions = $2, usage_dimensions_since = $3
WHERE organization_id = $1;

-- name: rows_since
-- The rows of an organization that were created after a moment: the seq before them, and the last.
SELECT
    after,
    last
FROM ledger_range($1, $2, NULL);

-- name: report_of_totals
-- The usage of the hours from $2 until $3, grouped by what $4 names, of the subjects with the values $5 to $9 (NULL:
-- any). The groups with the highest cost, day by day.
SELECT
    CASE WHEN 'day' = any($4::text []) THEN date_trunc('day', u.hour, 'UTC') END AS day,
    CASE WHEN 'model' = any($4) THEN u.subject ->> 'model' END AS model,
    CASE WHEN 'user' = any($4) THEN u.subject ->> 'user' END AS user_id,
    CASE WHEN 'category' = any($4) THEN u.subject ->> 'category' END AS category,
    CASE WHEN 'key' = any($4) THEN u.subject ->> 'key' END AS key_id,
    t.tag,
    u.subject ? 'rest' AS is_rest,
    sum(u.quantity) AS quantity,
    sum(u.cost) AS cost,
    sum(u.transactions)::bigint AS transactions
FROM usage_breakdowns AS u
LEFT JOIN LATERAL jsonb_array_elements_text(
    CASE WHEN 'tag' = any($4) THEN u.subject -> 'tag' END
) AS t (tag) ON TRUE
WHERE
    u.organization_id = $1
    AND u.hour >= $2
    AND u.hour < $3
    AND ($5::text IS NULL OR u.subject ->> 'model' = $5)
    AND ($6::text IS NULL OR u.subject ->> 'user' = $6)
    AND ($7::text IS NULL OR u.subject ->> 'category' = $7)
    AND ($8::text IS NULL OR u.subject ->> 'key' = $8)
    AND ($9::text IS NULL OR u.subject -> 'tag' ? $9)
GROUP BY 1, 2, 3, 4, 5, 6, 7
ORDER BY 1, 9 DESC, 2, 3, 4, 5, 6, 7
LIMIT $10;

-- name: report_of_rows
-- The same of the rows after seq $11 until seq $12.
SELECT
    CASE WHEN 'day' = any($4::text []) THEN date_trunc('day', r.effective_at, 'UTC') END AS day,
    CASE WHEN 'model' = any($4) THEN s.subject ->> 'model' END AS model,
    CASE WHEN 'user' = any($4) THEN s.subject ->> 'user' END AS user_id,
    CASE WHEN 'category' = any($4) THEN s.subject ->> 'category' END AS category,
    CASE WHEN 'key' = any($4) THEN s.subject ->> 'key' END AS key_id,
    t.tag,
    FALSE AS is_rest,
    coalesce(sum(r.quantity), 0) AS quantity,
    -sum(r.amount) AS cost,
    count(*) AS transactions
FROM credit_transactions AS r
CROSS JOIN LATERAL (
    SELECT ledger_subject('{model,user,category,key,tag}', r) AS subject OFFSET 0
) AS s
LEFT JOIN LATERAL jsonb_array_elements_text(
    CASE WHEN 'tag' = any($4) THEN s.subject -> 'tag' END
) AS t (tag) ON TRUE
WHERE
    r.organization_id = $1
    AND r.seq > $11
    AND r.seq <= $12
    AND r.type IN ('usage', 'hold_capture')
    AND r.effective_at >= $2
    AND r.effective_at < $3
    AND ($5::text IS NULL OR s.subject ->> 'model' = $5)
    AND ($6::text IS NULL OR s.subject ->> 'user' = $6)
    AND ($7::text IS NULL OR s.subject ->> 'category' = $7)
    AND ($8::text IS NULL OR s.subject ->> 'key' = $8)
    AND ($9::text IS NULL OR s.subject -> 'tag' ? $9)
GROUP BY 1, 2, 3, 4, 5, 6, 7
ORDER BY 1, 9 DESC, 2, 3, 4, 5, 6, 7
LIMIT $10;
