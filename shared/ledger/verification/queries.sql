-- name: verify_rows
-- Check a run of rows, after a given one: its hashes, balances, seqs and moments, what each made or ended, and
-- what it was when it was last verified. Returns how far it went, the last row of each ledger, and the first
-- problems. OFFSET 0 keeps each EXISTS a look-up: hashed, it would read its whole table for each run.
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
        p.type,
        p.created_at,
        p.idempotency_key,
        p.grant_id,
        p.hold_id,
        p.payment_intent_id,
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
            AS consumed_before,
        coalesce(
            lag(p.created_at) OVER rows_of_one,
            before.created_at,
            (SELECT o.created_at FROM organizations AS o WHERE o.id = p.organization_id)
        ) AS created_before
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
            WHEN l.created_at < l.created_before THEN 'created_at goes back'
            WHEN
                l.amount > 0
                AND NOT EXISTS (
                    SELECT FROM credit_grants AS g
                    WHERE
                        g.organization_id = l.organization_id
                        AND g.seq = l.seq
                        AND g.transaction_id = l.id
                    OFFSET 0
                )
                THEN 'the grant that this row opened is missing'
            WHEN
                l.type IN ('expiration', 'void')
                AND NOT EXISTS (
                    SELECT FROM credit_grants AS g
                    WHERE
                        g.organization_id = l.organization_id
                        AND g.id = l.grant_id
                        AND g.ended_by = l.type
                        AND g.ended_at = l.created_at
                    OFFSET 0
                )
                THEN 'the grant that this row ended does not say so: ' || l.grant_id
            WHEN
                l.type = 'hold_capture'
                AND NOT EXISTS (
                    SELECT FROM holds AS h
                    WHERE
                        h.organization_id = l.organization_id
                        AND h.id = l.hold_id
                        AND h.status = 'captured'
                        AND h.captured_amount = -l.amount
                        AND h.closed_at = l.created_at
                    OFFSET 0
                )
                THEN 'the hold that this row captured does not say so: ' || l.hold_id
            WHEN
                l.type IN ('purchase', 'recharge')
                AND starts_with(l.idempotency_key, 'stripe')
                AND l.payment_intent_id IS NOT NULL
                AND NOT EXISTS (
                    SELECT FROM stripe_payments AS s
                    WHERE
                        s.payment_intent_id = l.payment_intent_id
                        AND s.organization_id = l.organization_id
                    OFFSET 0
                )
                THEN 'the payment of this row is missing: ' || l.payment_intent_id
            WHEN c.hash <> l.hash THEN 'the row has changed since it was verified'
        END AS problem
    FROM linked AS l
    LEFT JOIN ledger_checkpoints AS c ON l.organization_id = c.organization_id AND l.seq = c.seq
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
        SELECT coalesce(jsonb_agg(jsonb_build_array(h.organization_id, h.seq, encode(h.hash, 'hex'))), '[]')
        FROM (
            SELECT DISTINCT ON (p.organization_id)
                p.organization_id,
                p.seq,
                p.hash
            FROM page AS p
            ORDER BY p.organization_id, p.seq DESC
        ) AS h
    ) AS heads,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_array(q.organization_id, q.seq, q.id, q.problem)), '[]')
        FROM (SELECT * FROM problems WHERE problem IS NOT NULL LIMIT 100) AS q
    ) AS problems;

-- name: verify_accounts
-- Check accounts against their last row, their grants, their holds, the segments of what they burned, their
-- auto-recharge, and what the audit log says of their limits.
SELECT
    a.organization_id,
    NULL::bigint AS seq,
    NULL::uuid AS transaction_id,
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
    WHERE
        h.organization_id = a.organization_id
        AND h.status = 'active'
        AND h.expires_at > a.expired_through
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
CROSS JOIN LATERAL (SELECT ledger_next_due(a.organization_id) AS at) AS due
LEFT JOIN burn_segments AS burning
    ON a.organization_id = burning.organization_id AND burning.upper IS NULL
LEFT JOIN auto_recharges AS rule ON a.organization_id = rule.organization_id AND rule.state = 'active'
LEFT JOIN ledger_checkpoints AS c ON a.organization_id = c.organization_id
CROSS JOIN LATERAL (
    SELECT
        (
            SELECT (l.details ->> 'overdraftLimitDecimillicents')::numeric
            FROM audit_log AS l
            WHERE
                l.subject = a.organization_id::text
                AND l.action = 'billing.overdraft'
                AND l.organization_id = a.organization_id
            ORDER BY l.at DESC, l.id DESC
            LIMIT 1
        ) AS overdraft_limit
) AS audited
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
    ),
    (
        CASE
            WHEN c.seq > a.last_seq THEN 'rows that were verified are missing: the last was ' || c.seq
        END
    ),
    (
        CASE
            WHEN t.created_at > a.updated_at THEN 'created_at of the last row is after updated_at'
        END
    ),
    (
        CASE
            WHEN burning.grant_id IS DISTINCT FROM a.burning_grant_id
                THEN 'burning_grant_id is not the grant of the open segment'
        END
    ),
    (
        -- It may be early where what was to expire is gone: the next look corrects it.
        CASE
            WHEN
                due.at IS DISTINCT FROM a.next_due_at
                AND (
                    a.next_due_at IS NULL
                    OR a.next_due_at > due.at
                    OR NOT EXISTS (
                        SELECT FROM credit_grants AS g
                        WHERE
                            g.organization_id = a.organization_id AND g.expires_at = a.next_due_at
                        UNION ALL
                        SELECT FROM holds AS h
                        WHERE
                            h.organization_id = a.organization_id AND h.expires_at = a.next_due_at
                    )
                )
                THEN 'next_due_at is not when the next grant or hold expires'
        END
    ),
    (
        CASE
            WHEN a.overdraft_limit <> coalesce(audited.overdraft_limit, 0)
                THEN 'overdraft_limit is not what the audit log says'
        END
    ),
    (CASE WHEN a.closed_at IS NOT NULL THEN 'closed_at is set, and nothing closes accounts' END),
    (
        CASE
            WHEN a.recharge_below IS DISTINCT FROM rule.threshold
                THEN 'recharge_below is not the threshold of the auto-recharge rule'
        END
    )
) AS checked (problem)
WHERE a.organization_id = any($1::uuid []) AND checked.problem IS NOT NULL
ORDER BY a.organization_id
LIMIT $2;

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
    NULL::bigint AS seq,
    NULL::uuid AS transaction_id,
    'a usage total is not the sum of its rows: '
    || coalesce(r.category, u.category) || ' from ' || coalesce(r.hour, u.hour) AS problem
FROM used AS r
FULL JOIN told AS u
    ON r.organization_id = u.organization_id AND r.category = u.category AND r.hour = u.hour
WHERE
    (r.quantity, r.cost, r.transactions) IS DISTINCT FROM (u.quantity, u.cost, u.transactions)
ORDER BY 1, 4
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
                AND NOT EXISTS (
                    SELECT FROM credit_transactions AS e
                    WHERE
                        e.organization_id = g.organization_id
                        AND g.ended_by = 'expiration'
                        AND e.idempotency_key = 'expiration:' || g.id
                        AND e.created_at = g.ended_at
                )
                AND NOT EXISTS (
                    SELECT FROM credit_transactions AS e
                    WHERE
                        e.organization_id = g.organization_id
                        AND g.ended_by = 'void'
                        AND e.type = 'void'
                        AND e.type NOT IN ('usage', 'hold_capture')
                        AND e.grant_id = g.id
                        AND e.created_at = g.ended_at
                )
                THEN 'no row says that and when a grant ended'
        END
    )
) AS checked (problem)
WHERE g.organization_id = any($1::uuid []) AND checked.problem IS NOT NULL
ORDER BY g.organization_id, g.seq
LIMIT $2;

-- name: verify_captures
-- Check captured holds against the rows of their captures.
SELECT
    h.organization_id,
    NULL::bigint AS seq,
    NULL::uuid AS transaction_id,
    'no row says what a hold captured: ' || h.id AS problem
FROM holds AS h
LEFT JOIN credit_transactions AS t
    ON
        h.organization_id = t.organization_id
        AND h.id = t.hold_id
        AND t.type = 'hold_capture'
        AND t.amount = -h.captured_amount
WHERE h.organization_id = any($1::uuid []) AND h.status = 'captured' AND t.id IS NULL
ORDER BY h.organization_id, h.id
LIMIT $2;

-- name: verify_payments
-- Check payments against the rows that credited them and took them back.
SELECT
    p.organization_id,
    credited.seq,
    credited.transaction_id,
    checked.problem || ': ' || p.payment_intent_id AS problem
FROM stripe_payments AS p
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(t.amount), 0) AS amount,
        min(t.seq) AS seq,
        (array_agg(t.id ORDER BY t.seq))[1] AS transaction_id
    FROM credit_grants AS g
    INNER JOIN credit_transactions AS t ON g.organization_id = t.organization_id AND g.seq = t.seq
    WHERE
        g.organization_id = p.organization_id
        AND g.payment_intent_id = p.payment_intent_id
        AND t.type <> 'dispute_reversal'
) AS credited
CROSS JOIN LATERAL (
    SELECT
        coalesce(-sum(t.amount), 0) AS amount,
        count(*) AS steps
    FROM generate_series(1, p.reversals + 1) AS n (number)
    INNER JOIN credit_transactions AS t
        ON
            p.organization_id = t.organization_id
            AND t.idempotency_key = 'stripe:' || p.payment_intent_id || ':reversal:' || n.number
) AS reversed
CROSS JOIN LATERAL (
    VALUES
    (
        CASE
            WHEN credited.seq IS NULL THEN 'no row of its organization credits a payment'
            WHEN p.credits <> credited.amount THEN 'credits of a payment are not those of its rows'
        END
    ),
    (
        CASE
            WHEN (p.reversed, p.reversals) <> (reversed.amount, reversed.steps)
                THEN 'reversed of a payment is not what its refunds and disputes took back'
        END
    )
) AS checked (problem)
WHERE p.organization_id = any($1::uuid []) AND checked.problem IS NOT NULL
ORDER BY p.organization_id, p.payment_intent_id
LIMIT $2;

-- name: verify_attempts
-- Check recharge attempts that succeeded against the rows that credited them.
SELECT
    r.organization_id,
    t.seq,
    t.id AS transaction_id,
    'no row credits a recharge attempt that succeeded: ' || r.id AS problem
FROM recharge_attempts AS r
LEFT JOIN credit_transactions AS t
    ON
        r.organization_id = t.organization_id
        AND t.idempotency_key = 'stripe:' || r.payment_intent_id
WHERE
    r.organization_id = any($1::uuid [])
    AND r.state = 'succeeded'
    AND t.id IS NULL
ORDER BY r.organization_id, r.id
LIMIT $2;

-- name: accounts_page
-- A page of accounts, after one until another, with how many rows each has.
SELECT
    organization_id,
    last_seq
FROM accounts
WHERE organization_id > $1 AND organization_id <= $2
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

-- name: fill_terms
-- Hash the terms of some grants that an older release opened, but of none that is in use this moment.
WITH unhashed AS (
    SELECT
        g.organization_id,
        g.id
    FROM credit_grants AS g
    WHERE g.organization_id = any($1::uuid []) AND g.terms_hash IS NULL
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
)

UPDATE credit_grants AS g
SET terms_hash = ledger_terms_hash(
    g.organization_id, g.id, g.priority, g.promotional, g.expires_at
)
FROM unhashed AS u
WHERE g.organization_id = u.organization_id AND g.id = u.id;

-- name: new_accounts
-- A page of accounts, after one, on which anything has happened since they were verified; with until which row
-- they were.
SELECT
    a.organization_id,
    a.last_seq,
    coalesce(c.seq, 0) AS verified_seq
FROM accounts AS a
LEFT JOIN ledger_checkpoints AS c ON a.organization_id = c.organization_id
WHERE
    a.organization_id > $1
    AND (coalesce(c.seq, 0) <> a.last_seq OR a.updated_at > c.verified_at)
ORDER BY a.organization_id
LIMIT $2;

-- name: save_checkpoints
-- Remember until which row ledgers have been verified.
INSERT INTO ledger_checkpoints (organization_id, seq, hash, verified_at)
SELECT
    organization_id,
    seq,
    hash,
    now()
FROM unnest($1::uuid [], $2::bigint [], $3::bytea []) AS c (organization_id, seq, hash)
ORDER BY organization_id
ON CONFLICT (organization_id) DO UPDATE
SET
    seq = excluded.seq,
    hash = excluded.hash,
    verified_at = excluded.verified_at;

-- name: start
-- Record a run.
INSERT INTO ledger_verifications (id, whole, after_organization_id)
VALUES ($1, $2, $3)
RETURNING *;

-- name: start_of_day
-- Take the incremental run of a day: a new one, or one that its process has left.
INSERT INTO ledger_verifications AS v (id, whole, day, after_organization_id)
VALUES ($1, FALSE, $2, $3)
ON CONFLICT (day) DO UPDATE
SET saved_at = now()
WHERE v.finished_at IS NULL AND v.saved_at < now() - $4::interval
RETURNING *;

-- name: unfinished
-- Take the last whole run, if it did not end.
UPDATE ledger_verifications AS v
SET saved_at = now()
FROM (
    SELECT l.id
    FROM ledger_verifications AS l
    WHERE l.whole
    ORDER BY l.started_at DESC
    LIMIT 1
) AS newest
WHERE v.id = newest.id AND v.finished_at IS NULL
RETURNING v.*;

-- name: save
-- Save the place that a run has reached.
UPDATE ledger_verifications
SET
    phase = $2,
    after_organization_id = $3,
    after_seq = $4,
    organizations = $5,
    transactions = $6,
    problems = $7,
    saved_at = now(),
    finished_at = CASE WHEN $8::boolean THEN now() END
WHERE id = $1;

-- name: changed_heads
-- Those of these heads that are not on the ledger any more: another hash, or no such row.
SELECT
    h.organization_id,
    h.seq,
    t.id
FROM unnest($1::uuid [], $2::bigint [], $3::bytea []) AS h (organization_id, seq, hash)
LEFT JOIN credit_transactions AS t ON h.organization_id = t.organization_id AND h.seq = t.seq
WHERE t.hash IS DISTINCT FROM h.hash
ORDER BY h.organization_id;
