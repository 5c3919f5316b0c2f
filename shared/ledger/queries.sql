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
