-- name: prepare
-- Add the row of an invariant that has never been checked.
INSERT INTO invariant_passes (name)
VALUES ($1)
ON CONFLICT DO NOTHING;

-- name: take
-- Take an invariant that is in the middle of a pass, or whose last pass ended longer than $2 ago. No row: it is not
-- due, or another worker checks it now.
SELECT
    checked_through,
    violations,
    example
FROM invariant_passes
WHERE name = $1 AND (checked_through <> '' OR checked_at <= now() - $2::interval)
FOR UPDATE SKIP LOCKED;

-- name: save_pass
-- Store how far a pass has come. An empty place: it has ended, and the next begins at the start.
UPDATE invariant_passes
SET
    checked_at = now(),
    checked_through = $2,
    violations = $3,
    example = $4
WHERE name = $1;

-- name: save_result
-- Store the result of a pass; return whether the invariant held before.
WITH before AS (
    SELECT ok
    FROM invariant_results
    WHERE name = $1
),

saved AS (
    INSERT INTO invariant_results AS r (
        name,
        checked_at,
        ok,
        violations,
        example,
        failing_since
    )
    VALUES ($1, now(), $2 = 0, $2, $3, CASE WHEN $2 > 0 THEN now() END)
    ON CONFLICT (name) DO UPDATE
    SET
        checked_at = excluded.checked_at,
        ok = excluded.ok,
        violations = excluded.violations,
        example = excluded.example,
        failing_since = CASE WHEN NOT excluded.ok THEN coalesce(r.failing_since, now()) END
    RETURNING r.name
)

SELECT coalesce((SELECT b.ok FROM before AS b), TRUE)
FROM saved;

-- name: results
-- The last result of each invariant.
SELECT
    name,
    checked_at,
    ok,
    violations,
    example,
    failing_since
FROM invariant_results
ORDER BY name;

-- name: overdue
-- Those of the invariants $1 of which nothing has been checked for longer than $2.
SELECT
    name,
    checked_at
FROM invariant_passes
WHERE name = any($1::text []) AND checked_at > '-infinity' AND checked_at < now() - $2::interval
ORDER BY name;

-- name: accounts_page
-- A page of accounts after $1: at most $2 of them, and no more after they have $3 unverified rows together.
SELECT p.organization_id
FROM (
    SELECT
        a.organization_id,
        a.last_seq - coalesce(c.seq, 0) AS rows,
        sum(a.last_seq - coalesce(c.seq, 0)) OVER (ORDER BY a.organization_id) AS rows_together
    FROM accounts AS a
    LEFT JOIN ledger_checkpoints AS c ON a.organization_id = c.organization_id
    WHERE a.organization_id > $1
    ORDER BY a.organization_id
    LIMIT $2
) AS p
WHERE p.rows_together - p.rows < $3
ORDER BY p.organization_id;

-- name: limit_time
-- Limit the duration of statements in this transaction.
SELECT set_config('statement_timeout', $1, TRUE);

-- name: zero_sum
-- Accounts whose balance is not the sum of their rows: the balance after the row that was last verified, and the
-- amounts since; where these are more than $3, the balance before the newest $3 rows, and their amounts.
SELECT
    o.id AS organization_id,
    t.last_seq AS seq,
    'the balance is ' || t.balance || ', and the rows add up to ' || t.total AS problem
FROM unnest($1::uuid []) AS o (id)
LEFT JOIN ledger_checkpoints AS c ON o.id = c.organization_id
CROSS JOIN LATERAL ledger_total(o.id, c.seq, $3) AS t
WHERE t.balance <> t.total
ORDER BY o.id
LIMIT $2;

-- name: budget_counters
-- Counters of budgets that are not the usage of their window, or what the open holds of their subject reserve. A
-- window of more than $3 rows is left out, and so is one that has ended: no posting reads it.
SELECT
    o.id AS organization_id,
    c.last_seq AS seq,
    'the budget ' || c.budget_id || ' has counted ' || c.used || ' used and ' || c.held || ' held of a subject, and its'
    || ' rows and holds are ' || c.rows_used || ' and ' || c.rows_held AS problem
FROM unnest($1::uuid []) AS o (id)
CROSS JOIN LATERAL ledger_counted(o.id, $3) AS c
WHERE c.used <> c.rows_used OR c.held <> c.rows_held
ORDER BY o.id, c.budget_id
LIMIT $2;

-- name: ledger
-- What the last verification with problems found, unless a whole verification after it found none; and that no
-- verification has ended for $1, or ever since the first began.
WITH clean AS (
    SELECT coalesce(max(v.started_at), '-infinity') AS at
    FROM ledger_verifications AS v
    WHERE v.whole AND v.finished_at IS NOT NULL AND v.problems = '[]'
),

problems AS (
    SELECT v.problems
    FROM ledger_verifications AS v
    INNER JOIN clean AS c ON v.started_at > c.at
    WHERE v.problems <> '[]'
    ORDER BY v.started_at DESC
    LIMIT 1
)

SELECT
    (e.problem ->> 'organizationId')::uuid AS organization_id,
    (e.problem ->> 'seq')::bigint AS seq,
    (e.problem ->> 'transactionId')::uuid AS transaction_id,
    e.problem ->> 'problem' AS problem
FROM problems AS p
CROSS JOIN jsonb_array_elements(p.problems) AS e (problem)
UNION ALL
SELECT
    NULL,
    NULL,
    NULL,
    'no verification has ended since ' || coalesce(max(v.finished_at), min(v.started_at))
FROM ledger_verifications AS v
HAVING coalesce(max(v.finished_at), min(v.started_at)) < now() - $1::interval
LIMIT $2;

-- name: events_due
-- Open events of the lanes $1 that have been due for longer than $3: those that were tried ($2), whose retry or lost
-- lease nobody took, or those that nobody has tried. A paused type waits on purpose.
SELECT
    e.id AS event_id,
    e.type AS event_type,
    CASE
        WHEN $2::boolean THEN 'the retry of the event is due since '
        ELSE 'nobody has tried to apply the event, which is due since '
    END || e.available_at AS problem
FROM unnest($1::text []) AS l (lane)
CROSS JOIN LATERAL (
    SELECT
        s.id,
        s.type,
        s.available_at
    FROM stripe_events AS s
    WHERE
        s.state IN ('received', 'retrying')
        AND s.lane = l.lane
        AND s.available_at < now() - $3::interval
        AND (s.attempts > 0) = $2::boolean
        AND NOT EXISTS (
            SELECT FROM event_breakers AS b
            WHERE b.event_type = s.type AND b.paused_until > now()
        )
    ORDER BY s.available_at
    LIMIT $4
) AS e
ORDER BY e.available_at
LIMIT $4;

-- name: attempts_on_time
-- Live recharge attempts that nobody has taken for longer than $1, or that are in a state for $2 longer than it lasts
-- ($3 states, $4 of a rule's attempt, $5 of a top-up). Those that wait for the installation's Stripe key have an
-- alert of their own.
SELECT
    r.organization_id,
    r.id AS attempt_id,
    'the attempt is ' || r.state || ' since ' || coalesce(r.charged_at, r.created_at)
    || ', due since ' || r.due_at AS problem
FROM recharge_attempts AS r
INNER JOIN unnest($3::text [], $4::interval [], $5::interval []) AS d (state, lasts, lasts_for_top_up)
    ON r.state = d.state
WHERE
    r.state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
    AND r.blocked_by IS NULL
    AND (
        r.due_at < now() - $1::interval
        OR coalesce(
            CASE WHEN r.state = 'requires_action' THEN r.link_expires_at END,
            coalesce(r.charged_at, r.created_at)
            + CASE WHEN r.trigger = 'top_up' THEN d.lasts_for_top_up ELSE d.lasts END
        ) < now() - $2::interval
    )
ORDER BY r.due_at
LIMIT $6;

-- name: messages_on_time
-- Messages to the app that have been due for longer than $1, endpoint by endpoint.
SELECT
    m.organization_id,
    m.id AS message_id,
    'the message to endpoint ' || e.id || ' is due since ' || m.available_at AS problem
FROM webhook_endpoints AS e
CROSS JOIN LATERAL (
    SELECT
        w.organization_id,
        w.id,
        w.available_at
    FROM outbound_messages AS w
    WHERE
        w.endpoint_id = e.id
        AND w.state = 'pending'
        AND w.available_at < now() - $1::interval
    ORDER BY w.available_at
    LIMIT $2
) AS m
ORDER BY m.available_at
LIMIT $2;

-- name: expirations_on_time
-- Accounts in which a grant or a hold should have expired longer than $1 ago.
SELECT
    organization_id,
    'an expiration is due since ' || next_due_at AS problem
FROM accounts
WHERE next_due_at < now() - $1::interval
ORDER BY next_due_at
LIMIT $2;

-- name: purchases_on_time
-- Open purchases that should have expired longer than $1 ago.
SELECT
    organization_id,
    id AS purchase_id,
    'the purchase is open, and should have expired at ' || closes_at AS problem
FROM purchases
WHERE state = 'open' AND closes_at < now() - $1::interval
ORDER BY closes_at
LIMIT $2;

-- name: suspensions_on_time
-- Suspensions of auto-recharge that should have ended longer than $1 ago.
SELECT
    organization_id,
    'the suspension (' || reason || ') should have ended at ' || suspended_until AS problem
FROM auto_recharges
WHERE
    state = 'suspended'
    AND suspended_until IS NOT NULL
    AND suspended_until < now() - $1::interval
ORDER BY suspended_until
LIMIT $2;
