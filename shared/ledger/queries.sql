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

-- name: known_places
-- The places, counted from 1, of those of these keys that have been posted.
SELECT ledger_known_places($1::uuid [], $2::text []) AS place;

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
-- Post expirations of an organization, up to a number, and nothing else; FALSE: its account is locked.
SELECT ledger_post_expirations($1, $2) AS posted;

-- name: balances
-- Balances, the parts on hold and overdraft limits as they are stored, and whether something has expired since.
SELECT
    organization_id,
    balance,
    held,
    overdraft_limit,
    last_seq,
    coalesce(next_due_at <= now(), FALSE) AS is_due
FROM accounts
WHERE organization_id = any($1::uuid []);

-- name: due_balances
-- The same where something may have expired: what is due by now counts as expired, posted or not.
SELECT
    a.organization_id,
    a.balance - CASE WHEN a.next_due_at <= now() THEN a.expired + coalesce(g.remaining, 0) ELSE 0 END AS balance,
    a.held - CASE WHEN a.next_due_at <= now() THEN coalesce(h.rest, 0) ELSE 0 END AS held,
    a.overdraft_limit,
    a.last_seq
FROM accounts AS a
LEFT JOIN (
    SELECT
        d.organization_id,
        sum(d.remaining) AS remaining
    FROM credit_grants AS d
    INNER JOIN accounts AS b ON d.organization_id = b.organization_id
    WHERE
        d.organization_id = any($1::uuid [])
        AND b.organization_id = any($1::uuid [])
        AND NOT d.spent
        AND d.expires_at > b.expired_through
        AND d.expires_at <= now()
    GROUP BY d.organization_id
) AS g ON a.organization_id = g.organization_id
LEFT JOIN (
    SELECT
        d.organization_id,
        sum(ledger_hold_rest(d)) AS rest
    FROM holds AS d
    INNER JOIN accounts AS b ON d.organization_id = b.organization_id
    WHERE
        d.organization_id = any($1::uuid [])
        AND b.organization_id = any($1::uuid [])
        AND d.status = 'active'
        AND d.expires_at > b.expired_through
        AND d.expires_at <= now()
    GROUP BY d.organization_id
) AS h ON a.organization_id = h.organization_id
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

-- name: expiring
-- Grants that expire soon and are not announced, the earliest first.
SELECT
    organization_id,
    id
FROM credit_grants
WHERE
    NOT spent
    AND expires_at > $1
    AND expires_at <= $1 + $2::interval
    AND expiry_told_at IS NULL
ORDER BY expires_at
LIMIT $3;

-- name: mark_announced
-- Mark a grant that expires soon as announced; no row: it is announced already, or another transaction has locked it.
UPDATE credit_grants AS g
SET expiry_told_at = $3
WHERE
    g.organization_id = $1
    AND g.id = (
        SELECT d.id
        FROM credit_grants AS d
        WHERE d.organization_id = $1 AND d.id = $2 AND NOT d.spent AND d.expiry_told_at IS NULL
        FOR UPDATE SKIP LOCKED
    )
RETURNING
    g.organization_id,
    g.id,
    g.remaining,
    g.expires_at;

-- name: announce_expiring
-- Announce grants that expire soon.
SELECT
    announce(
        t.organization_id,
        md5('credits.expiring' || t.id)::uuid,
        'credits.expiring',
        jsonb_build_object('grantId', t.id, 'amount', t.remaining, 'expiresAt', t.expires_at),
        $1
    )
FROM unnest($2::uuid [], $3::uuid [], $4::numeric [], $5::timestamptz []) AS t (
    organization_id, id, remaining, expires_at
);

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
-- Lock a payment before its reversed part changes; return also whether a row of the ledger credits it.
SELECT
    p.organization_id,
    p.credits,
    p.reversed,
    p.reversals,
    c.seq IS NOT NULL AS credited
FROM stripe_payments AS p
CROSS JOIN LATERAL ledger_credited(p.organization_id, p.payment_intent_id) AS c
WHERE p.payment_intent_id = $1
FOR UPDATE OF p;

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

-- name: shards
-- The shards of a cluster, by the lowest hash of their organizations; none on one PostgreSQL.
SELECT
    hash_min,
    hash_max,
    node
FROM ledger_shards()
ORDER BY hash_min;
