-- name: verify_usage
-- Check the usage totals against the sums of their rows.
WITH used AS (
    SELECT
        t.organization_id,
        t.category,
        date_trunc('hour', t.effective_at, 'UTC') AS hour,
        sum(coalesce(t.quantity, 0)) AS quantity,
        sum(-t.amount) AS cost,
        count(*) AS transactions
    FROM credit_transactions AS t
    WHERE
        t.organization_id = any($1::uuid [])
        AND t.type IN ('usage', 'hold_capture')
        AND t.category IS NOT NULL
    GROUP BY 1, 2, 3
),

totals AS (
    SELECT u.*
    FROM usage_totals AS u
    WHERE u.organization_id = any($1::uuid [])
)

SELECT
    coalesce(r.organization_id, u.organization_id) AS organization_id,
    NULL::bigint AS seq,
    NULL::uuid AS transaction_id,
    'a usage total is not the sum of its rows: '
    || coalesce(r.category, u.category) || ' from ' || coalesce(r.hour, u.hour) AS problem
FROM used AS r
FULL JOIN totals AS u
    ON r.organization_id = u.organization_id AND r.category = u.category AND r.hour = u.hour
WHERE
    (r.quantity, r.cost, r.transactions) IS DISTINCT FROM (u.quantity, u.cost, u.transactions)
ORDER BY 1, 4
LIMIT $2;

-- name: verify_breakdowns
-- Check the usage totals by dimension, hour by hour: together they are the sum of the hour's rows, and so is each
-- subject. In an hour that has its limit of subjects, the rest may be of any subject. The hours are those since the
-- dimensions were turned on ($3: how far ahead usage may be dated, and an hour more); a subject of more dimensions than
-- are on now is read without the others.
WITH settings AS (
    SELECT
        a.organization_id,
        a.usage_dimensions AS dimensions,
        date_trunc('hour', a.usage_dimensions_since + $3::interval, 'UTC') AS first_hour
    FROM accounts AS a
    WHERE a.organization_id = any($1::uuid []) AND a.usage_dimensions IS NOT NULL
),

totals AS (
    SELECT
        u.organization_id,
        u.hour,
        CASE WHEN u.subject = ledger_rest_subject() THEN u.subject ELSE s.subject END AS subject,
        u.quantity,
        u.cost,
        u.transactions
    FROM settings AS w
    INNER JOIN usage_breakdowns AS u ON w.organization_id = u.organization_id
    CROSS JOIN LATERAL (
        SELECT jsonb_object_agg(d.name, u.subject -> d.name) AS subject
        FROM unnest(w.dimensions) AS d (name)
    ) AS s
    WHERE u.hour >= w.first_hour
),

used AS (
    SELECT
        t.organization_id,
        date_trunc('hour', t.effective_at, 'UTC') AS hour,
        ledger_subject(w.dimensions, t) AS subject,
        coalesce(t.quantity, 0) AS quantity,
        -t.amount AS cost
    FROM settings AS w
    INNER JOIN credit_transactions AS t ON w.organization_id = t.organization_id
    WHERE t.type IN ('usage', 'hold_capture') AND t.effective_at >= w.first_hour
),

-- What the totals of a subject exceed its rows by.
excess AS (
    SELECT
        e.organization_id,
        e.hour,
        e.subject,
        sum(e.quantity) AS quantity,
        sum(e.cost) AS cost,
        sum(e.transactions) AS transactions
    FROM (
        SELECT
            o.organization_id,
            o.hour,
            o.subject,
            o.quantity,
            o.cost,
            o.transactions
        FROM totals AS o
        UNION ALL
        SELECT
            r.organization_id,
            r.hour,
            r.subject,
            -r.quantity,
            -r.cost,
            -1
        FROM used AS r
    ) AS e
    GROUP BY e.organization_id, e.hour, e.subject
),

hours AS (
    SELECT
        x.organization_id,
        x.hour,
        (sum(x.quantity), sum(x.cost), sum(x.transactions)) = (0, 0, 0) AS is_whole,
        bool_or(x.subject = ledger_rest_subject()) AS has_rest,
        bool_or((x.quantity, x.cost, x.transactions) <> (0, 0, 0)) AS differs,
        bool_or(
            x.subject <> ledger_rest_subject()
            AND (x.quantity > 0 OR x.cost > 0 OR x.transactions > 0)
        ) AS exceeds
    FROM excess AS x
    GROUP BY x.organization_id, x.hour
)

SELECT
    h.organization_id,
    NULL::bigint AS seq,
    NULL::uuid AS transaction_id,
    'usage totals by dimension are not the sums of their rows: from ' || h.hour AS problem
FROM hours AS h
WHERE NOT h.is_whole OR h.exceeds OR (h.differs AND NOT h.has_rest)
ORDER BY h.organization_id, h.hour
LIMIT $2;
