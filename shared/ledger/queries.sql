-- name: post
-- Post any mix of organizations in one round trip, with a result for each posting.
SELECT
    ordinal,
    status,
    id,
    seq,
    amount,
    balance_after,
    created_at
FROM ledger_post($1::text::jsonb);

-- name: balance
-- What an organization owns, what of it is on hold, and how far it may go below zero.
SELECT
    balance,
    held,
    overdraft_limit,
    last_seq
FROM accounts
WHERE organization_id = $1;

-- name: transaction_after
-- The first row of an organization after a given seq.
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
