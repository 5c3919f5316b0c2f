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

-- name: post_unclaimed
-- Post in the same way those whose Idempotency-Key no other request has; the others have no result.
WITH unclaimed AS MATERIALIZED (
    SELECT
        postings,
        places
    FROM unclaimed_postings($1::text::jsonb)
)

SELECT
    u.places[r.place] AS place,
    r.status,
    r.id,
    r.seq,
    r.amount,
    r.balance_after,
    r.created_at,
    r.held,
    r.available
FROM unclaimed AS u
CROSS JOIN LATERAL ledger_post(u.postings) AS r;

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

-- name: settle_due
-- Post what has expired in these organizations, up to a number for each, and nothing else. An account that
-- another has locked is left out. Returns how many accounts there were.
WITH taken AS MATERIALIZED (
    SELECT organization_id
    FROM accounts
    WHERE organization_id = any($1::uuid [])
    ORDER BY organization_id
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
    r.balance AS balance_met,
    r.held AS held_met,
    r.available AS available_met
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

-- name: count_listed
-- How many rows an organization has, or ($1 is NULL) all of them: their numbers have no gaps.
SELECT coalesce(sum(last_seq), 0)::bigint
FROM accounts
WHERE $1::uuid IS NULL OR organization_id = $1;

-- name: find_listed
-- A row by its id, in any organization, with the expiry of the grant that it made.
SELECT
    t.*,
    o.number,
    g.expires_at
FROM credit_transactions AS t
INNER JOIN organizations AS o ON t.organization_id = o.id
LEFT JOIN credit_grants AS g ON t.organization_id = g.organization_id AND t.seq = g.seq
WHERE t.id = $1;

-- name: list_of
-- An organization's rows from one number down to another.
SELECT
    t.*,
    o.number,
    g.expires_at
FROM credit_transactions AS t
INNER JOIN organizations AS o ON t.organization_id = o.id
LEFT JOIN credit_grants AS g ON t.organization_id = g.organization_id AND t.seq = g.seq
WHERE t.organization_id = $1 AND t.seq <= $2 AND t.seq > $3
ORDER BY t.seq DESC;

-- name: list_all
-- A page of all organizations' rows, newest first: ids begin with the time. What is skipped is skipped in
-- the index. OFFSET 0 keeps each join a look-up for each row of the page.
WITH page AS (
    SELECT id
    FROM credit_transactions
    ORDER BY id DESC
    LIMIT $2 OFFSET $1
)

SELECT
    t.*,
    o.number,
    g.expires_at
FROM page AS p
CROSS JOIN LATERAL (
    SELECT *
    FROM credit_transactions
    WHERE id = p.id
    OFFSET 0
) AS t
CROSS JOIN LATERAL (
    SELECT number
    FROM organizations
    WHERE id = t.organization_id
    OFFSET 0
) AS o
LEFT JOIN LATERAL (
    SELECT expires_at
    FROM credit_grants
    WHERE organization_id = t.organization_id AND seq = t.seq
    OFFSET 0
) AS g ON TRUE
ORDER BY t.id DESC;

-- name: count_filtered
-- How many rows of an organization, or ($1 is NULL) of all, pass filters, which replace TRUE.
SELECT count(*)
FROM (
    SELECT *
    FROM credit_transactions
    WHERE $1::uuid IS NULL OR organization_id = $1
) AS t
INNER JOIN organizations AS o ON t.organization_id = o.id
LEFT JOIN credit_grants AS g ON t.organization_id = g.organization_id AND t.seq = g.seq
WHERE TRUE;

-- name: list_filtered
-- A page of all organizations' rows that pass filters, which replace TRUE.
SELECT
    t.*,
    o.number,
    g.expires_at
FROM credit_transactions AS t
INNER JOIN organizations AS o ON t.organization_id = o.id AND $1::uuid IS NULL
LEFT JOIN credit_grants AS g ON t.organization_id = g.organization_id AND t.seq = g.seq
WHERE TRUE
ORDER BY t.id DESC
LIMIT $3 OFFSET $2;

-- name: list_filtered_of
-- A page of an organization's rows that pass filters, which replace TRUE.
SELECT
    t.*,
    o.number,
    g.expires_at
FROM (
    SELECT *
    FROM credit_transactions
    WHERE organization_id = $1
) AS t
INNER JOIN organizations AS o ON t.organization_id = o.id
LEFT JOIN LATERAL (
    SELECT *
    FROM credit_grants
    WHERE organization_id = t.organization_id AND seq = t.seq
    OFFSET 0
) AS g ON TRUE
WHERE TRUE
ORDER BY t.seq DESC
LIMIT $3 OFFSET $2;

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

-- name: tell_expiring
-- Tell of grants that will expire soon, each once.
SELECT ledger_tell_expiring($1, $2::interval, $3);

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

-- name: verify_rows
-- Check a run of rows, after a given one: its hashes, its balances, its seq. Returns how far it went and
-- the first problems.
WITH page AS (
    SELECT t.*
    FROM credit_transactions AS t
    WHERE (t.organization_id, t.seq) > ($1, $2) AND t.organization_id <= $3
    ORDER BY t.organization_id, t.seq
    LIMIT $4
),

linked AS (
    SELECT
        p.organization_id,
        p.seq,
        p.id,
        p.balance_after,
        p.consumed_after,
        p.amount,
        p.hash,
        ledger_row_hash(
            coalesce(lag(p.hash) OVER rows_of_one, before.hash, '\x'::bytea),
            row(
                p.organization_id,
                p.seq,
                p.id,
                p.type,
                p.amount,
                p.counterparty,
                p.balance_after,
                p.consumed_after,
                p.idempotency_key,
                p.request_digest,
                p.effective_at,
                p.created_at,
                p.description,
                p.category,
                p.quantity,
                p.user_id,
                p.grant_id,
                p.hold_id,
                p.payment_intent_id,
                p.metadata,
                p.hash
            )::credit_transactions
        ) AS expected_hash,
        coalesce(lag(p.seq) OVER rows_of_one, before.seq, 0) AS seq_before,
        coalesce(lag(p.balance_after) OVER rows_of_one, before.balance_after, 0) AS balance_before,
        coalesce(lag(p.consumed_after) OVER rows_of_one, before.consumed_after, 0)
            AS consumed_before
    FROM page AS p
    LEFT JOIN credit_transactions AS before
        ON p.organization_id = before.organization_id AND before.seq = $2 AND p.organization_id = $1
    WINDOW rows_of_one AS (PARTITION BY p.organization_id ORDER BY p.seq)
),

problems AS (
    SELECT
        l.organization_id,
        l.seq,
        l.id,
        CASE
            WHEN l.seq <> l.seq_before + 1 THEN 'seq has a gap before this row'
            WHEN l.hash <> l.expected_hash THEN 'hash does not fit the row or the row before it'
            WHEN l.balance_after <> l.balance_before + l.amount
                THEN 'balance_after is not the balance before plus the amount'
            WHEN l.consumed_after < l.consumed_before THEN 'consumed_after goes back'
        END AS problem
    FROM linked AS l
)

SELECT
    (SELECT count(*) FROM page) AS rows,
    (
        SELECT p.organization_id FROM page AS p ORDER BY p.organization_id DESC, p.seq DESC LIMIT 1
    ) AS last_organization_id,
    (
        SELECT p.seq FROM page AS p ORDER BY p.organization_id DESC, p.seq DESC LIMIT 1
    ) AS last_seq,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_array(q.organization_id, q.seq, q.id, q.problem)), '[]')
        FROM (SELECT * FROM problems WHERE problem IS NOT NULL LIMIT 100) AS q
    ) AS problems;

-- name: verify_accounts
-- Check accounts against their last row, their grants, their holds and the segments of what they burned.
SELECT
    a.organization_id,
    checked.problem
FROM accounts AS a
LEFT JOIN credit_transactions AS t ON a.organization_id = t.organization_id AND a.last_seq = t.seq
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(g.remaining), 0)
        - coalesce(sum(g.remaining) FILTER (WHERE g.expires_at <= a.expired_through), 0) AS remaining,
        coalesce(sum(g.remaining) FILTER (WHERE g.expires_at <= a.expired_through), 0) AS expired
    FROM credit_grants AS g
    WHERE g.organization_id = a.organization_id AND NOT g.spent
) AS grants
CROSS JOIN LATERAL (
    SELECT coalesce(sum(h.amount), 0) AS held
    FROM holds AS h
    WHERE h.organization_id = a.organization_id AND h.status = 'active'
) AS reserved
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(coalesce(s.upper, a.consumed) - s.lower), 0) AS covered,
        coalesce(bool_or(s.lower < s.upper_before), FALSE) AS overlap,
        coalesce(bool_or(s.lower > s.upper_before), FALSE) AS gap
    FROM (
        SELECT
            b.lower,
            b.upper,
            coalesce(lag(coalesce(b.upper, a.consumed)) OVER (ORDER BY b.lower), 0) AS upper_before
        FROM burn_segments AS b
        WHERE b.organization_id = a.organization_id
    ) AS s
) AS segments
CROSS JOIN LATERAL (
    VALUES
    (
        CASE
            WHEN a.last_seq > 0 AND t.seq IS NULL THEN 'the last row is missing'
            WHEN
                EXISTS (
                    SELECT FROM credit_transactions AS beyond
                    WHERE
                        beyond.organization_id = a.organization_id AND beyond.seq > a.last_seq
                )
                THEN 'there are rows behind the last one'
        END
    ),
    (
        CASE
            WHEN a.balance <> coalesce(t.balance_after, 0)
                THEN 'the balance is not that of the last row'
        END
    ),
    (
        CASE
            WHEN a.last_hash <> coalesce(t.hash, '\x'::bytea)
                THEN 'the last hash is not that of the last row'
        END
    ),
    (
        CASE
            WHEN a.consumed <> coalesce(t.consumed_after, 0)
                THEN 'what was consumed is not what the last row says'
        END
    ),
    (
        CASE
            WHEN grants.remaining <> greatest(a.balance - a.expired, 0)
                THEN 'what is left of the grants is not the balance'
        END
    ),
    (
        CASE
            WHEN grants.expired <> a.expired
                THEN 'what has expired is not what is left of the grants that have'
        END
    ),
    (CASE WHEN reserved.held <> a.held THEN 'held is not the sum of the active holds' END),
    (
        CASE
            WHEN
                segments.overlap OR segments.gap
                OR segments.covered + greatest(a.expired - a.balance, 0) <> a.consumed
                THEN 'burn segments do not cover exactly what was consumed'
        END
    )
) AS checked (problem)
WHERE a.organization_id = any($1::uuid []) AND checked.problem IS NOT NULL
ORDER BY a.organization_id;

-- name: verify_grants
-- Check what was taken of each grant against the segments that burned it and the rows that took from it
-- directly. Grants of one payment are checked together: a refund takes from them as from one.
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
    CASE
        WHEN t.forged THEN 'a grant is not the credit that opened it: ' || t.source
        ELSE 'what was taken of a grant is not what its debits say: ' || t.source
    END AS problem
FROM taken AS t
LEFT JOIN burned AS b ON t.organization_id = b.organization_id AND t.source = b.source
LEFT JOIN direct AS d ON t.organization_id = d.organization_id AND t.source = d.source
WHERE t.forged OR t.amount <> coalesce(b.amount, 0) + coalesce(d.amount, 0)
ORDER BY t.organization_id, t.source;

-- name: verify_usage
-- Check the usage totals against the rows that they add up.
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

told AS (
    SELECT u.*
    FROM usage_totals AS u
    WHERE u.organization_id = any($1::uuid [])
)

SELECT
    coalesce(r.organization_id, u.organization_id) AS organization_id,
    'a usage total is not the sum of its rows: '
    || coalesce(r.category, u.category) || ' from ' || coalesce(r.hour, u.hour) AS problem
FROM used AS r
FULL JOIN told AS u
    ON r.organization_id = u.organization_id AND r.category = u.category AND r.hour = u.hour
WHERE
    (r.quantity, r.cost, r.transactions) IS DISTINCT FROM (u.quantity, u.cost, u.transactions)
ORDER BY 1, 2;

-- name: accounts_page
-- A page of accounts, from one until another.
SELECT organization_id
FROM accounts
WHERE organization_id BETWEEN $1 AND $2
ORDER BY organization_id
LIMIT $3;

-- name: heads
-- The head of every ledger, in the order of the organizations.
SELECT
    organization_id,
    last_seq,
    last_hash
FROM accounts
WHERE last_seq > 0
ORDER BY organization_id;

-- name: trial_balance
-- Every account of the ledger and what it comes to.
SELECT
    account,
    balance
FROM trial_balance
ORDER BY account;
