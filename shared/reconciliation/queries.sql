-- name: create_run
-- Store a run that is requested, or that begins at once; nothing where a scheduled run has not ended.
INSERT INTO reconciliation_runs (
    id,
    mode,
    state,
    executor,
    requested_by,
    reason,
    scheduled,
    due_at,
    since,
    until,
    whole,
    started_at,
    saved_at
)
VALUES (
    $1,
    $2,
    CASE WHEN $3 = 'command' THEN 'running' ELSE 'requested' END,
    $3,
    $4,
    $5,
    $6,
    $7,
    $8,
    $9,
    $10,
    CASE WHEN $3 = 'command' THEN now() END,
    CASE WHEN $3 = 'command' THEN now() END
)
ON CONFLICT (scheduled) WHERE scheduled AND state IN ('requested', 'running') DO NOTHING
RETURNING *;

-- name: take_due
-- Begin, or continue, the run of a worker that has been due longest; scheduled ones where $1 says so.
UPDATE reconciliation_runs AS r
SET
    state = 'running',
    started_at = coalesce(r.started_at, now()),
    saved_at = now()
FROM (
    SELECT id
    FROM reconciliation_runs
    WHERE
        state IN ('requested', 'running')
        AND executor = 'worker'
        AND due_at <= now()
        AND ($1::boolean OR NOT scheduled)
    ORDER BY due_at, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
) AS d
WHERE r.id = d.id
RETURNING r.*;

-- name: agenda
-- Whether a run of a worker is due (a scheduled one where $1 says so), and whether the next one is planned.
SELECT
    coalesce(bool_or(executor = 'worker' AND due_at <= now() AND ($1::boolean OR NOT scheduled)), FALSE) AS is_due,
    coalesce(bool_or(scheduled), FALSE) AS is_planned
FROM reconciliation_runs
WHERE state IN ('requested', 'running');

-- name: set_period
-- Set what a scheduled run compares.
UPDATE reconciliation_runs
SET
    mode = $2,
    since = $3,
    until = $4,
    whole = $5
WHERE id = $1
RETURNING *;

-- name: last_scheduled
-- The newest scheduled runs that finished: one of any kind, and one that compared what is on file.
SELECT
    max(started_at) AS started_at,
    max(until) FILTER (WHERE jsonb_array_length(problems) = 0) AS compared_until,
    max(started_at) FILTER (WHERE whole) AS whole_started_at
FROM (
    SELECT
        started_at,
        until,
        whole,
        problems
    FROM reconciliation_runs
    WHERE state = 'finished' AND scheduled AND finished_at > now() - interval '30 days'
    ORDER BY finished_at DESC
    LIMIT 1000
) AS r;

-- name: unfinished
-- The newest run of the command line that has not ended.
SELECT *
FROM reconciliation_runs
WHERE state IN ('requested', 'running') AND executor = 'command'
ORDER BY due_at DESC
LIMIT 1;

-- name: interrupt
-- End the runs of the command line that died.
UPDATE reconciliation_runs
SET state = 'interrupted', finished_at = now()
WHERE state IN ('requested', 'running') AND executor = 'command' AND id <> $1
RETURNING id;

-- name: save
-- Save the place that a run has reached; nothing where it was taken over.
UPDATE reconciliation_runs
SET
    progress = $2,
    checked = $3,
    problems = $4,
    saved_at = now()
WHERE id = $1 AND state = 'running'
RETURNING id;

-- name: finish
-- End a run: finished, or failed for the reason given; nothing where it was taken over.
UPDATE reconciliation_runs
SET
    state = CASE WHEN $2::text IS NULL THEN 'finished' ELSE 'failed' END,
    detail = $2,
    finished_at = now(),
    saved_at = now()
WHERE id = $1 AND state = 'running'
RETURNING id;

-- name: purge
-- Delete old runs with their findings.
DELETE FROM reconciliation_runs
WHERE finished_at < now() - $1::interval;

-- name: save_findings
-- Store what a run has found. A repair outranks what an interrupted page recorded before.
INSERT INTO reconciliation_findings AS f (
    run_id,
    kind,
    object_id,
    account,
    organization_id,
    outcome,
    detail,
    amount_minor,
    currency,
    credits
)
SELECT
    $1,
    n.kind,
    n.object_id,
    n.account,
    n.organization_id,
    n.outcome,
    n.detail,
    n.amount_minor,
    n.currency,
    n.credits
FROM unnest(
    $2::text [],
    $3::text [],
    $4::text [],
    $5::uuid [],
    $6::text [],
    $7::text [],
    $8::bigint [],
    $9::text [],
    $10::numeric []
) AS n (kind, object_id, account, organization_id, outcome, detail, amount_minor, currency, credits)
ON CONFLICT (run_id, kind, object_id) DO UPDATE
SET
    outcome = excluded.outcome,
    detail = excluded.detail,
    organization_id = coalesce(excluded.organization_id, f.organization_id),
    credits = coalesce(excluded.credits, f.credits)
WHERE f.outcome <> 'repaired' OR excluded.outcome IN ('repaired', 'refused');

-- name: repair_applied
-- Record the events that a run inserted and that were applied later as repaired.
UPDATE reconciliation_findings AS f
SET
    outcome = 'repaired',
    organization_id = e.organization_id,
    detail = left(f.detail || ', until it was ' || e.state, 1000)
FROM stripe_events AS e
WHERE
    f.run_id = $1
    AND f.kind = 'missing_event'
    AND f.outcome = 'found'
    AND e.id = f.object_id
    AND e.request_id = 'reconciliation:' || f.run_id::text
    AND e.state IN ('applied', 'ignored');

-- name: delete_resolved
-- Delete findings that have resolved themselves since: the event has arrived, or the payment was credited.
DELETE FROM reconciliation_findings AS f
WHERE
    f.run_id = $1
    AND f.outcome IN ('found', 'repairable')
    AND (
        (
            f.kind = 'missing_event'
            AND EXISTS (
                SELECT
                FROM stripe_events AS e
                WHERE e.id = f.object_id AND e.request_id IS DISTINCT FROM 'reconciliation:' || f.run_id::text
            )
        )
        OR (
            f.kind = 'charged_not_credited'
            AND EXISTS (
                SELECT
                FROM stripe_payments AS p
                WHERE
                    p.payment_intent_id = f.object_id
                    AND p.amount_minor = f.amount_minor
                    AND ledger_seq_of(p.organization_id, $2 || p.payment_intent_id) IS NOT NULL
            )
        )
    );

-- name: forget_seen
-- Delete which credited payments runs have seen at Stripe.
DELETE FROM reconciliation_seen
WHERE run_id = any($1::uuid []);

-- name: run
-- One run.
SELECT *
FROM reconciliation_runs
WHERE id = $1;

-- name: latest_runs
-- Runs, newest first, after a place in that order.
SELECT *
FROM reconciliation_runs
WHERE $2::timestamptz IS NULL OR (requested_at, id) < ($2, $3::uuid)
ORDER BY requested_at DESC, id DESC
LIMIT $1;

-- name: count_findings
-- The findings of runs, by kind and outcome.
SELECT
    run_id,
    kind,
    outcome,
    count(*) AS findings
FROM reconciliation_findings
WHERE run_id = any($1::uuid [])
GROUP BY run_id, kind, outcome;

-- name: findings
-- A page of the findings of a run, in the order of kind and object.
SELECT
    kind,
    object_id,
    account,
    organization_id,
    outcome,
    detail,
    amount_minor,
    currency,
    credits,
    found_at
FROM reconciliation_findings
WHERE
    run_id = $1
    AND ($2::text IS NULL OR kind = $2)
    AND ($3::text IS NULL OR (kind, object_id) > ($3, $4::text))
ORDER BY kind, object_id
LIMIT $5;

-- name: drift
-- The findings that are not repaired: of the last finished run, and for what is on file of the last that compared it.
WITH newest AS (
    SELECT
        id,
        FALSE AS on_file
    FROM (
        SELECT id
        FROM reconciliation_runs
        WHERE state = 'finished'
        ORDER BY finished_at DESC
        LIMIT 1
    ) AS r
    UNION ALL
    SELECT
        id,
        TRUE
    FROM (
        SELECT id
        FROM reconciliation_runs
        WHERE state = 'finished' AND whole
        ORDER BY finished_at DESC
        LIMIT 1
    ) AS w
)

SELECT
    f.kind,
    count(*) AS findings
FROM newest AS n
INNER JOIN reconciliation_findings AS f ON n.id = f.run_id
WHERE f.outcome <> 'repaired' AND (f.kind IN ('customer_deleted', 'payment_method_gone')) = n.on_file
GROUP BY f.kind;

-- name: last_finished
-- How old the last finished run is, and how many lists it could not compare.
SELECT
    extract(EPOCH FROM now() - started_at)::float8 AS age_seconds,
    jsonb_array_length(problems) AS problems
FROM reconciliation_runs
WHERE state = 'finished'
ORDER BY finished_at DESC
LIMIT 1;

-- name: lock
-- Hold the lock of reconciliation until the end of this transaction; FALSE: another process has it.
SELECT pg_try_advisory_xact_lock(hashtextextended('prepaid reconcile', 0));

-- name: renew_lock
-- Show that the holder of the lock is alive: PostgreSQL ends a transaction that is idle for long.
SELECT 1;
