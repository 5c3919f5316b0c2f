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
    available
FROM ledger_post($1::text::jsonb);

-- name: post_shared
-- Post in the same way what waits for no account longer than $2 ms and goes through no more than $3 grants.
SELECT
    place,
    status,
    id,
    seq,
    amount,
    balance_after,
    created_at,
    held,
    available
FROM ledger_post($1::text::jsonb, $2, $3);

-- name: are_known
-- Which of these keys have been posted, in the order asked: a look-up for each, not a join.
SELECT
    (
        SELECT t.seq
        FROM credit_transactions AS t
        WHERE t.organization_id = k.organization_id AND t.idempotency_key = k.key
    ) AS seq
FROM unnest($1::uuid [], $2::text []) WITH ORDINALITY AS k (organization_id, key, place)
ORDER BY k.place;

-- name: post_expirations
-- Post what has expired in some of these organizations ($3), up to a number for each, and nothing else. An account
-- that another has locked is left out. Returns how many accounts there were.
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

-- name: hold
-- Reserve an amount for a time.
SELECT
    r.status AS result,
    (r.hold).*,
    r.balance AS balance_now,
    r.held AS held_now,
    r.available AS available_now
FROM ledger_hold($1, $2, $3, $4, $5, $6::text::bytea, $7) AS r;

-- name: release
-- Give a reservation up.
SELECT
    r.status AS result,
    (r.hold).*
FROM ledger_release($1, $2) AS r;

-- name: balances
-- What organizations own, what of it is on hold, and how far they may go below zero. What is due by now
-- counts as expired, whether or not a posting has come by to say so.
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
                    SELECT coalesce(sum(h.amount), 0)
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
-- For each of these organizations whose live attempt may still bring credits without anybody's doing: the
-- seconds until it is looked at next. One that waits for its customer may not, nor one that is armed for a
-- rule that does not run any more.
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
-- What an organization owned at a moment.
SELECT ledger_balance_at($1, $2);

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

-- name: history
-- A page of an organization's rows, newest first, before a given seq.
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
-- The newest rows of usage in these categories, or ($3) in none of those that are told apart ($4).
SELECT *
FROM credit_transactions
WHERE
    organization_id = $1
    AND type IN ('usage', 'hold_capture')
    AND (category = any($2::text []) OR ($3 AND (category = any($4::text [])) IS NOT TRUE))
ORDER BY seq DESC
LIMIT $5;

-- name: usage_total
-- What was used in a category, hour by hour, from one moment until another.
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
-- The grants that paid for a range of an organization's consumption, in the order of burning.
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
ORDER BY s.lower;

-- name: consumed_before
-- What had been consumed before a row.
SELECT coalesce(max(t.consumed_after), 0)
FROM credit_transactions AS t
WHERE t.organization_id = $1 AND t.seq = $2 - 1;

-- name: grant_source
-- A grant itself, as the source of what was taken from it directly. Where a payment has had several
-- grants (a dispute that was won brings another), the payment is named and no grant.
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
-- What a grant paid for, oldest first, after a given seq.
SELECT
    amount,
    transaction_id,
    seq,
    type,
    created_at
FROM ledger_uses($1, $2, $3, $4);

-- name: due
-- Organizations in which a grant or a hold has expired that nothing has come by to settle.
SELECT organization_id
FROM accounts
WHERE next_due_at <= now()
ORDER BY next_due_at
LIMIT $1;

-- name: announce_expiring
-- Tell of grants that will expire soon, each once.
SELECT ledger_announce_expiring($1, $2::interval, $3);

-- name: grants
-- A page of an organization's grants, newest first, before a given seq; all, or ($3) those that are spent.
SELECT *
FROM credit_grants
WHERE organization_id = $1 AND seq < $2 AND (spent OR NOT $3)
ORDER BY seq DESC
LIMIT $4;

-- name: open_grants
-- A page of an organization's grants that have something left, newest first, before a given seq.
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

-- name: holds
-- A page of an organization's holds, newest first, before a given id.
SELECT *
FROM holds
WHERE organization_id = $1 AND id < $2
ORDER BY id DESC
LIMIT $3;

-- name: holds_in_state
-- A page of an organization's holds in a state, newest first, before a given id.
SELECT *
FROM holds
WHERE organization_id = $1 AND id < $2 AND status = $3
ORDER BY id DESC
LIMIT $4;

-- name: find_hold
-- A hold of an organization.
SELECT *
FROM holds
WHERE organization_id = $1 AND id = $2;

-- name: lock_payment
-- Take a payment for a change of what is reversed of it.
SELECT
    organization_id,
    credits,
    reversed,
    reversals
FROM stripe_payments
WHERE payment_intent_id = $1
FOR UPDATE;

-- name: record_reversal
-- Remember how much of a payment has been taken back, all in all.
UPDATE stripe_payments
SET reversed = $2, reversals = reversals + 1
WHERE payment_intent_id = $1;

-- name: trial_balance
-- Every account of the ledger and what it comes to.
SELECT
    account,
    balance
FROM trial_balance
ORDER BY account;
