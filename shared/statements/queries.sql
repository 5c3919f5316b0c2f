-- name: finish_postings
-- Wait for postings of an organization that are in progress: they hold the lock on its account.
SELECT organization_id
FROM accounts
WHERE organization_id = $1
FOR SHARE;

-- name: position
-- The last row of an organization before a moment: its seq, balance and hash; seq 0 where there is none.
SELECT
    seq,
    balance,
    hash
FROM ledger_position($1, $2);

-- name: totals
-- The sums by type of the rows after seq $2 until seq $3; of usage by category, the first $4 by amount, the rest as
-- one.
SELECT
    r.type,
    CASE WHEN r.rank <= $4 THEN r.category END AS category,
    r.rank > $4 AS is_rest,
    sum(r.amount) AS amount,
    sum(r.transactions)::bigint AS transactions
FROM (
    SELECT
        g.type,
        g.category,
        g.amount,
        g.transactions,
        row_number() OVER (PARTITION BY g.type ORDER BY g.amount, g.category) AS rank
    FROM (
        SELECT
            CASE WHEN t.type = 'hold_capture' THEN 'usage' ELSE t.type END AS type,
            CASE WHEN t.type IN ('usage', 'hold_capture') THEN t.category END AS category,
            sum(t.amount) AS amount,
            count(*) AS transactions
        FROM credit_transactions AS t
        WHERE t.organization_id = $1 AND t.seq > $2 AND t.seq <= $3
        GROUP BY 1, 2
    ) AS g
) AS r
GROUP BY 1, 2, 3;
