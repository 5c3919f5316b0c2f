-- name: post
-- Post any mix of organizations in one round trip, with a result for each posting.
SELECT
    place,
    status,
    id,
    seq,
    amount,
    balance_after,
    created_at,
    held,
    available,
    budget
FROM ledger_post($1::text::jsonb);

-- name: post_shared
-- Post likewise, but defer what would wait for an account longer than $2 ms or read more than $3 grants.
SELECT
    place,
    status,
    id,
    seq,
    amount,
    balance_after,
    created_at,
    held,
    available,
    budget
FROM ledger_post($1::text::jsonb, $2, $3);

-- name: are_known
-- Which of these keys have been posted, in the order of the keys: a look-up for each, not a join.
SELECT
    (
        SELECT t.seq
        FROM credit_transactions AS t
        WHERE t.organization_id = k.organization_id AND t.idempotency_key = k.key
    ) AS seq
FROM unnest($1::uuid [], $2::text []) WITH ORDINALITY AS k (organization_id, key, place)
ORDER BY k.place;

-- name: find_by_keys
-- The rows of an organization with these keys: a look-up for each, not a join.
SELECT
    t.*,
    '\x' || encode(t.request_digest, 'hex') AS digest
FROM unnest($2::text []) AS k (key)
CROSS JOIN LATERAL (
    SELECT *
    FROM credit_transactions
    WHERE organization_id = $1 AND idempotency_key = k.key
    OFFSET 0
) AS t;

-- name: post_expirations
-- Post expirations in up to $3 of these organizations, up to $2 in each, and nothing else. Locked accounts are
-- skipped. Returns the number of accounts.
WITH taken AS MATERIALIZED (
    SELECT organization_id
    FROM accounts
    WHERE organization_id = any($1::uuid [])
    ORDER BY organization_id
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)

SELECT count(DISTINCT t.organization_id)
FROM taken AS t
LEFT JOIN LATERAL ledger_post_organization(t.organization_id, '{}', $2) AS r ON TRUE;

-- name: balances
-- Balances, the parts on hold, and overdraft limits. What is due by now counts as expired, posted or not.
SELECT
    a.organization_id,
    a.balance - due.expired AS balance,
    a.held - due.released AS held,
    a.overdraft_limit,
    a.last_seq
FROM accounts AS a
CROSS JOIN LATERAL (
    SELECT
        CASE
            WHEN a.next_due_at <= now()
                THEN a.expired + (
                    SELECT coalesce(sum(g.remaining), 0)
                    FROM credit_grants AS g
                    WHERE
                        g.organization_id = a.organization_id
                        AND NOT g.spent
                        AND g.expires_at > a.expired_through
                        AND g.expires_at <= now()
                )
            ELSE 0
        END AS expired,
        CASE
            WHEN a.next_due_at <= now()
                THEN (
                    SELECT coalesce(sum(ledger_hold_rest(h)), 0)
                    FROM holds AS h
                    WHERE
                        h.organization_id = a.organization_id
                        AND h.status = 'active'
                        AND h.expires_at > a.expired_through
                        AND h.expires_at <= now()
                )
            ELSE 0
        END AS released
) AS due
WHERE a.organization_id = any($1::uuid []);

-- name: recharges_in_progress
-- The seconds until the next check of each live attempt that may still bring credits by itself. One that waits
-- for its customer may not, nor one that is armed for a rule that is switched off.
SELECT
    r.organization_id,
    greatest(ceil(extract(EPOCH FROM r.due_at - now())), 0)::integer AS seconds
FROM recharge_attempts AS r
LEFT JOIN auto_recharges AS s ON r.organization_id = s.organization_id
WHERE
    r.organization_id = any($1::uuid [])
    AND r.state IN ('armed', 'charging', 'processing', 'unknown')
    AND (r.state <> 'armed' OR s.state = 'active');

-- name: balance_at
-- The balance of an organization at a moment.
SELECT ledger_balance_at($1, $2);

-- name: transaction_after
-- The first row of an organization after a seq.
SELECT
    id,
    seq,
    type,
    amount,
    balance_after,
    payment_intent_id
FROM credit_transactions
WHERE organization_id = $1 AND seq > $2
ORDER BY seq
LIMIT 1;

-- name: history
-- A page of an organization's rows, newest first, before a seq.
SELECT *
FROM credit_transactions
WHERE organization_id = $1 AND seq < $2
ORDER BY seq DESC
LIMIT $3;

-- name: recent_of_types
-- The newest rows of these types, none of which is usage: read from an index of their own.
SELECT *
FROM credit_transactions
WHERE
    organization_id = $1
    AND type NOT IN ('usage', 'hold_capture')
    AND type = any($2::text [])
ORDER BY seq DESC
LIMIT $3;

-- name: recent_usage
-- The newest rows of usage in these categories, or ($3) in all but some ($4).
SELECT *
FROM credit_transactions
WHERE
    organization_id = $1
    AND type IN ('usage', 'hold_capture')
    AND (category = any($2::text []) OR ($3 AND (category = any($4::text [])) IS NOT TRUE))
ORDER BY seq DESC
LIMIT $5;

-- name: usage_total
-- The usage of a category, hour by hour, from one moment until another.
SELECT
    coalesce(sum(quantity), 0) AS quantity,
    coalesce(sum(cost), 0) AS cost,
    coalesce(sum(transactions), 0)::bigint AS transactions
FROM usage_totals
WHERE organization_id = $1 AND category = $2 AND hour >= $3 AND hour < $4;

-- name: find
-- A row by its id, in any organization.
SELECT *
FROM credit_transactions
WHERE id = $1;

-- name: sources
-- The first grants ($4; NULL: all) that paid for a range of an organization's consumption, in the order of burning.
SELECT
    least(coalesce(s.upper, a.consumed), $3) - greatest(s.lower, $2) AS amount,
    g.id AS grant_id,
    t.type AS grant_type,
    g.payment_intent_id,
    p.charge_id,
    p.receipt_url
FROM accounts AS a
INNER JOIN burn_segments AS s ON a.organization_id = s.organization_id
INNER JOIN credit_grants AS g ON s.organization_id = g.organization_id AND s.grant_id = g.id
INNER JOIN credit_transactions AS t ON g.organization_id = t.organization_id AND g.seq = t.seq
LEFT JOIN stripe_payments AS p ON g.payment_intent_id = p.payment_intent_id
WHERE
    a.organization_id = $1
    AND s.lower >= coalesce(
        (
            SELECT max(b.lower)
            FROM burn_segments AS b
            WHERE b.organization_id = $1 AND b.lower <= $2
        ),
        0
    )
    AND s.lower < $3
    AND coalesce(s.upper, a.consumed) > $2
ORDER BY s.lower
LIMIT $4;

-- name: consumed_before
-- The credits consumed before a row.
SELECT coalesce(max(t.consumed_after), 0)
FROM credit_transactions AS t
WHERE t.organization_id = $1 AND t.seq = $2 - 1;

-- name: grant_source
-- A grant as the source of credits that were taken from it directly. Where a payment has several grants (a won
-- dispute adds one), the payment is returned without a grant.
SELECT
    CASE WHEN count(*) OVER () = 1 THEN g.id END AS grant_id,
    t.type AS grant_type,
    g.payment_intent_id,
    p.charge_id,
    p.receipt_url
FROM credit_grants AS g
INNER JOIN credit_transactions AS t ON g.organization_id = t.organization_id AND g.seq = t.seq
LEFT JOIN stripe_payments AS p ON g.payment_intent_id = p.payment_intent_id
WHERE g.organization_id = $1 AND (g.id = $2 OR g.payment_intent_id = $3)
ORDER BY g.seq
LIMIT 1;

-- name: uses
-- The debits that a grant paid for, oldest first, after a seq.
SELECT
    amount,
    transaction_id,
    seq,
    type,
    created_at
FROM ledger_uses($1, $2, $3, $4);

-- name: due
-- Organizations in which a grant or a hold has expired and its expiration is not posted.
SELECT organization_id
FROM accounts
WHERE next_due_at <= now()
ORDER BY next_due_at
LIMIT $1;

-- name: announce_expiring
-- Announce grants that expire soon, each once.
SELECT ledger_announce_expiring($1, $2::interval, $3);

-- name: grants
-- A page of an organization's grants, newest first, before a seq; all, or ($3) only spent ones.
SELECT *
FROM credit_grants
WHERE organization_id = $1 AND seq < $2 AND (spent OR NOT $3)
ORDER BY seq DESC
LIMIT $4;

-- name: open_grants
-- A page of an organization's grants with credits left, newest first, before a seq.
SELECT *
FROM credit_grants
WHERE organization_id = $1 AND seq < $2 AND NOT spent
ORDER BY seq DESC
LIMIT $3;

-- name: find_grant
-- A grant of an organization.
SELECT *
FROM credit_grants
WHERE organization_id = $1 AND id = $2;

-- name: lock_payment
-- Lock a payment before its reversed part changes.
SELECT
    organization_id,
    credits,
    reversed,
    reversals
FROM stripe_payments
WHERE payment_intent_id = $1
FOR UPDATE;

-- name: record_reversal
-- Record the total that has been reversed of a payment.
UPDATE stripe_payments
SET reversed = $2, reversals = reversals + 1
WHERE payment_intent_id = $1;

-- name: trial_balance
-- The balance of every account of the ledger.
SELECT
    account,
    balance
FROM trial_balance
ORDER BY account;
