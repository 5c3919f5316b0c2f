-- name: stop_abandoned
-- Stop a running batch whose process has not saved it for some time, so that another can start.
UPDATE replay_batches
SET state = 'stopped'
WHERE kind = $1 AND state = 'running' AND saved_at < now() - $2::interval;

-- name: start_batch
-- Store a batch, unless another of its kind runs.
INSERT INTO replay_batches (id, kind, holder, ids, filter, actor, reason, options)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: running
-- The batch of a kind that runs.
SELECT
    id,
    actor,
    started_at
FROM replay_batches
WHERE kind = $1 AND state = 'running';

-- name: batch
-- A batch with its progress.
SELECT * FROM replay_batches
WHERE id = $1 AND kind = $2;

-- name: resume_batch
-- Give a batch that is not finished to another process; the one that held it commits nothing more.
UPDATE replay_batches
SET
    state = 'running',
    holder = $2,
    saved_at = now()
WHERE id = $1 AND state <> 'finished'
RETURNING *;

-- name: lock_batch
-- Lock a batch that this process runs.
SELECT id
FROM replay_batches
WHERE id = $1 AND holder = $2 AND state = 'running'
FOR UPDATE;

-- name: select_chunk
-- Note what is selected next, and where the selection continues. Only the process that holds the batch may.
UPDATE replay_batches
SET
    in_flight = $3,
    selected = selected + cardinality($3::text []),
    after_at = coalesce($4, after_at),
    after_id = coalesce($5, after_id),
    next_place = $6,
    saved_at = now()
WHERE id = $1 AND holder = $2 AND state = 'running'
RETURNING id;

-- name: count_results
-- Count the results of events in flight, in the transaction of their effects. Only the process that holds the batch
-- may; a result that is counted already is not counted twice.
UPDATE replay_batches AS b
SET
    in_flight = array(
        SELECT f.id
        FROM unnest(b.in_flight) WITH ORDINALITY AS f (id, place)
        WHERE f.id <> all($3::text [])
        ORDER BY f.place
    ),
    applied = b.applied + (
        SELECT count(*)
        FROM unnest($3::text [], $4::text []) AS r (id, effect)
        WHERE r.effect = 'applied' AND r.id = any(b.in_flight)
    ),
    noop = b.noop + (
        SELECT count(*)
        FROM unnest($3::text [], $4::text []) AS r (id, effect)
        WHERE r.effect = 'noop' AND r.id = any(b.in_flight)
    ),
    failed = b.failed + (
        SELECT count(*)
        FROM unnest($3::text [], $4::text []) AS r (id, effect)
        WHERE r.effect = 'failed' AND r.id = any(b.in_flight)
    ),
    failures = CASE
        WHEN jsonb_array_length($5::jsonb) > 0 AND jsonb_array_length(b.failures) < $6 THEN b.failures || $5::jsonb
        ELSE b.failures
    END,
    saved_at = now()
WHERE b.id = $1 AND b.holder = $2 AND b.state = 'running'
RETURNING b.id;

-- name: add_changes
-- Add what a transaction did to each organization, in the order of their ids; keep the first transactions.
INSERT INTO replay_batch_organizations AS o (
    batch_id,
    organization_id,
    balance_before,
    balance_after,
    transactions,
    transaction_ids
)
SELECT
    $1,
    c.organization_id,
    c.balance_before,
    c.balance_after,
    c.transactions,
    array(
        SELECT t.id
        FROM unnest($6::uuid [], $7::uuid []) AS t (organization_id, id)
        WHERE t.organization_id = c.organization_id
        LIMIT $8
    )
FROM unnest(
    $2::uuid [],
    $3::numeric [],
    $4::numeric [],
    $5::bigint []
) AS c (organization_id, balance_before, balance_after, transactions)
ORDER BY c.organization_id
ON CONFLICT (batch_id, organization_id) DO UPDATE
SET
    balance_after = excluded.balance_after,
    transactions = o.transactions + excluded.transactions,
    transaction_ids = CASE
        WHEN cardinality(o.transaction_ids) < $8 THEN (o.transaction_ids || excluded.transaction_ids)[:$8]
        ELSE o.transaction_ids
    END;

-- name: end_batch
-- End a batch that this process runs: finished, or stopped before its end.
UPDATE replay_batches
SET
    state = $3,
    saved_at = now(),
    finished_at = CASE WHEN $3 = 'finished' THEN now() END
WHERE id = $1 AND holder = $2 AND state = 'running'
RETURNING id;

-- name: purge_changes
-- Delete what replays changed that finished long enough ago, a few rows at a time.
DELETE FROM replay_batch_organizations
WHERE (batch_id, organization_id) IN (
    SELECT
        o.batch_id,
        o.organization_id
    FROM replay_batches AS b
    INNER JOIN replay_batch_organizations AS o ON b.id = o.batch_id
    WHERE b.state = 'finished' AND b.finished_at < now() - $1::interval
    LIMIT $2
)
RETURNING batch_id;

-- name: purge_batches
-- Delete replays that finished long enough ago, a few at a time, once nothing refers to them.
DELETE FROM replay_batches
WHERE id IN (
    SELECT b.id
    FROM replay_batches AS b
    WHERE
        b.state = 'finished'
        AND b.finished_at < now() - $1::interval
        AND NOT EXISTS (SELECT FROM replay_batch_organizations AS o WHERE o.batch_id = b.id)
    LIMIT $2
)
RETURNING id;

-- name: count_organizations
-- How many organizations a batch changed.
SELECT count(*)
FROM replay_batch_organizations
WHERE batch_id = $1;

-- name: organizations
-- The first organizations that a batch changed.
SELECT
    b.organization_id,
    o.slug,
    b.balance_before,
    b.balance_after,
    b.transaction_ids
FROM replay_batch_organizations AS b
INNER JOIN organizations AS o ON b.organization_id = o.id
WHERE b.batch_id = $1
ORDER BY b.organization_id
LIMIT $2;

-- name: ledger_rows
-- Type and amount of transactions, in the order of their sequence.
SELECT
    t.organization_id,
    t.id,
    t.type,
    t.amount
FROM credit_transactions AS t
WHERE t.id = any($1::uuid [])
ORDER BY t.organization_id, t.seq;

-- name: organizations_now
-- Balance, auto-recharge and live attempt of organizations, as this transaction sees them.
SELECT
    o.id,
    o.slug,
    coalesce(a.balance, 0) AS balance,
    r.state AS auto_recharge,
    r.reason AS auto_recharge_reason,
    t.id AS attempt_id,
    t.state AS attempt_state,
    t.amount AS attempt_amount
FROM organizations AS o
LEFT JOIN accounts AS a ON o.id = a.organization_id
LEFT JOIN auto_recharges AS r ON o.id = r.organization_id
LEFT JOIN recharge_attempts AS t
    ON
        o.id = t.organization_id
        AND t.state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
WHERE o.id = any($1::uuid [])
ORDER BY o.id;

-- name: rows_of_transaction
-- The newest rows of each organization, at most $2 of each, that are not older than this transaction: its own, and what
-- others posted before it locked the account.
SELECT
    t.organization_id,
    t.seq,
    t.id,
    t.type,
    t.amount,
    t.balance_after,
    t.idempotency_key
FROM unnest($1::uuid []) AS o (id)
CROSS JOIN LATERAL ledger_rows_since(o.id, now(), $2) AS t
ORDER BY t.organization_id, t.seq;

-- name: existing
-- Which of these transactions are in the ledger.
SELECT id
FROM credit_transactions
WHERE id = any($1::uuid []);

-- name: new_messages
-- How many outbound messages of each type this transaction has written.
SELECT
    organization_id,
    type,
    count(DISTINCT id) AS messages
FROM outbound_messages
WHERE created_at = now() AND organization_id = any($1::uuid [])
GROUP BY organization_id, type
ORDER BY organization_id, type;
