-- name: verify_grants
-- Check the used part of each grant against its burn segments and the rows that took from it directly. Grants
-- of one payment are checked together: a refund takes from them as from one.
WITH taken AS (
    SELECT
        g.organization_id,
        coalesce(g.payment_intent_id, g.id::text) AS source,
        sum(g.original - g.remaining) AS amount,
        bool_or(t.amount IS DISTINCT FROM g.original) AS forged
    FROM credit_grants AS g
    LEFT JOIN credit_transactions AS t
        ON g.organization_id = t.organization_id AND g.seq = t.seq AND g.transaction_id = t.id
    WHERE g.organization_id = any($1::uuid [])
    GROUP BY 1, 2
),

burned AS (
    SELECT
        s.organization_id,
        coalesce(g.payment_intent_id, g.id::text) AS source,
        sum(coalesce(s.upper, a.consumed) - s.lower) AS amount
    FROM burn_segments AS s
    INNER JOIN accounts AS a ON s.organization_id = a.organization_id
    INNER JOIN credit_grants AS g ON s.organization_id = g.organization_id AND s.grant_id = g.id
    WHERE s.organization_id = any($1::uuid [])
    GROUP BY 1, 2
),

direct AS (
    SELECT
        t.organization_id,
        coalesce(t.payment_intent_id, g.payment_intent_id, g.id::text) AS source,
        -sum(t.amount + t.consumed_after - b.consumed_after) AS amount
    FROM credit_transactions AS t
    INNER JOIN credit_transactions AS b
        ON t.organization_id = b.organization_id AND b.seq = t.seq - 1
    LEFT JOIN credit_grants AS g ON t.organization_id = g.organization_id AND t.grant_id = g.id
    WHERE
        t.organization_id = any($1::uuid [])
        AND t.type IN ('expiration', 'void', 'refund', 'dispute')
    GROUP BY 1, 2
)

SELECT
    t.organization_id,
    NULL::bigint AS seq,
    NULL::uuid AS transaction_id,
    CASE
        WHEN t.forged THEN 'a grant is not the credit that opened it: ' || t.source
        ELSE 'what was taken of a grant is not what its debits say: ' || t.source
    END AS problem
FROM taken AS t
LEFT JOIN burned AS b ON t.organization_id = b.organization_id AND t.source = b.source
LEFT JOIN direct AS d ON t.organization_id = d.organization_id AND t.source = d.source
WHERE t.forged OR t.amount <> coalesce(b.amount, 0) + coalesce(d.amount, 0)
ORDER BY t.organization_id, t.source
LIMIT $2;

-- name: verify_terms
-- Check each grant against the row that opened it and the row that ended it, and its terms against their hash.
SELECT
    g.organization_id,
    g.seq,
    g.transaction_id,
    checked.problem || ': ' || g.id AS problem
FROM credit_grants AS g
LEFT JOIN credit_transactions AS t
    ON g.organization_id = t.organization_id AND g.seq = t.seq AND g.transaction_id = t.id
LEFT JOIN credit_transactions AS e
    ON
        g.organization_id = e.organization_id
        AND g.ended_by = 'expiration'
        AND e.idempotency_key = 'expiration:' || g.id
        AND g.ended_at = e.created_at
LEFT JOIN credit_transactions AS v
    ON
        g.organization_id = v.organization_id
        AND g.ended_by = 'void'
        AND v.type = 'void'
        AND v.type NOT IN ('usage', 'hold_capture')
        AND g.id = v.grant_id
        AND g.ended_at = v.created_at
CROSS JOIN LATERAL (
    VALUES
    (
        CASE
            WHEN
                g.created_at IS DISTINCT FROM t.created_at
                OR g.payment_intent_id IS DISTINCT FROM t.payment_intent_id
                THEN 'a grant is not what the row that opened it says'
        END
    ),
    (
        CASE
            WHEN
                g.terms_hash <> ledger_terms_hash(
                    g.organization_id, g.id, g.priority, g.promotional, g.expires_at
                )
                THEN 'priority, expires_at or promotional of a grant has changed since it was opened'
        END
    ),
    (
        CASE
            WHEN
                g.ended_at IS NOT NULL
                AND e.id IS NULL
                AND v.id IS NULL
                THEN 'no row says that and when a grant ended'
        END
    )
) AS checked (problem)
WHERE g.organization_id = any($1::uuid []) AND checked.problem IS NOT NULL
ORDER BY g.organization_id, g.seq
LIMIT $2;
