-- name: insert
-- Add a budget that nothing is counted for yet. No row: there is one of this subject and window.
INSERT INTO budgets (
    organization_id,
    id,
    subject_kind,
    subject,
    window_kind,
    limit_amount,
    action,
    thresholds,
    created_at,
    updated_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::smallint [], $9, $9)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: id_of
-- The id of the budget of a subject and window.
SELECT id
FROM budgets
WHERE
    organization_id = $1
    AND subject_kind = $2
    AND subject = $3
    AND window_kind = $4
    AND removed_at IS NULL;

-- name: window
-- The end of the current window of a kind, by the clock of the ledger, the last row before the window, and the last row
-- of all.
SELECT
    window_end,
    seq_before,
    last_seq
FROM ledger_window($1, $2);

-- name: count_rows
-- Add the usage of a range of rows to the counters of a budget: those after $3, up to $4, in the window that ends at $5.
INSERT INTO budget_counters AS c (organization_id, budget_id, subject, window_end, used, held)
SELECT
    b.organization_id,
    b.id,
    v.subject,
    $5::text::timestamptz,
    -sum(t.amount),
    0
FROM budgets AS b
INNER JOIN credit_transactions AS t ON b.organization_id = t.organization_id
CROSS JOIN LATERAL unnest(ledger_dimension(b.subject_kind, t.user_id, t.category, t.metadata)) AS v (subject)
WHERE
    b.organization_id = $1
    AND b.id = $2
    AND t.seq > $3
    AND t.seq <= $4
    AND ledger_counts_in_budgets(t.type)
    AND b.subject IN ('*', v.subject)
GROUP BY b.organization_id, b.id, v.subject
ON CONFLICT (organization_id, budget_id, subject) DO UPDATE
SET used = c.used + excluded.used;

-- name: delete_counters
-- Remove the counters of a budget whose window ended while it was counted.
DELETE FROM budget_counters
WHERE organization_id = $1 AND budget_id = $2;

-- name: lock_and_add
-- Lock an account, and count one budget more of it. Returns when it was closed, and the number of its budgets.
UPDATE accounts
SET budgets = budgets + 1
WHERE organization_id = $1
RETURNING
    closed_at,
    budgets;

-- name: count_holds
-- Add the active holds to the counters of a budget, under the account's lock. Those that have expired since are still
-- part of what is held: the next posting takes them out.
INSERT INTO budget_counters AS c (organization_id, budget_id, subject, window_end, used, held)
SELECT
    b.organization_id,
    b.id,
    v.subject,
    $3::text::timestamptz,
    0,
    sum(i.held)
FROM budgets AS b
INNER JOIN accounts AS a ON b.organization_id = a.organization_id
INNER JOIN holds AS h
    ON
        b.organization_id = h.organization_id
        AND h.status = 'active'
        AND h.expires_at > a.expired_through
CROSS JOIN LATERAL ledger_hold_item(h, ledger_hold_rest(h)) AS i
CROSS JOIN LATERAL unnest(ledger_dimension(b.subject_kind, i.user_id, i.category, i.metadata)) AS v (subject)
WHERE b.organization_id = $1 AND b.id = $2 AND b.subject IN ('*', v.subject)
GROUP BY b.organization_id, b.id, v.subject
ON CONFLICT (organization_id, budget_id, subject) DO UPDATE
SET held = excluded.held;

-- name: change
-- Change a budget; NULL leaves a part as it is.
UPDATE budgets
SET
    limit_amount = coalesce($3, limit_amount),
    action = coalesce($4, action),
    thresholds = coalesce($5::smallint [], thresholds),
    updated_at = $6
WHERE organization_id = $1 AND id = $2 AND removed_at IS NULL
RETURNING id;

-- name: remove
-- Remove a budget. The cleaner deletes its counters.
WITH removed AS (
    UPDATE budgets
    SET removed_at = $3
    WHERE organization_id = $1 AND id = $2 AND removed_at IS NULL
    RETURNING organization_id
)

UPDATE accounts AS a
SET budgets = a.budgets - 1
FROM removed AS r
WHERE a.organization_id = r.organization_id
RETURNING a.organization_id;

-- name: page
-- A page of an organization's budgets, newest first; of one of them with $3. With the end of its current window.
SELECT
    b.organization_id,
    b.id,
    b.subject_kind,
    b.subject,
    b.window_kind,
    b.limit_amount,
    b.action,
    b.thresholds,
    b.created_at,
    b.updated_at,
    nullif(ledger_window_end(b.window_kind, greatest(clock_timestamp(), a.updated_at)), 'infinity') AS resets_at
FROM budgets AS b
INNER JOIN accounts AS a ON b.organization_id = a.organization_id
WHERE b.organization_id = $1 AND b.id < $2 AND ($3::uuid IS NULL OR b.id = $3) AND b.removed_at IS NULL
ORDER BY b.id DESC
LIMIT $4;

-- name: subjects
-- The subjects of budgets that used or hold most in the current window, up to $3 of each budget. Holds that have
-- expired, and that no posting has taken out yet, are not held.
SELECT
    b.id AS budget_id,
    s.subject,
    s.used,
    s.held
FROM budgets AS b
INNER JOIN accounts AS a ON b.organization_id = a.organization_id
CROSS JOIN LATERAL (
    SELECT ledger_window_end(b.window_kind, greatest(clock_timestamp(), a.updated_at)) AS window_end
) AS w
CROSS JOIN LATERAL (
    SELECT
        c.subject,
        u.used,
        h.held
    FROM budget_counters AS c
    CROSS JOIN LATERAL (SELECT CASE WHEN c.window_end = w.window_end THEN c.used ELSE 0 END AS used) AS u
    LEFT JOIN (
        SELECT
            v.subject,
            sum(i.held) AS held
        FROM holds AS h
        CROSS JOIN LATERAL ledger_hold_item(h, ledger_hold_rest(h)) AS i
        CROSS JOIN LATERAL unnest(ledger_dimension(b.subject_kind, i.user_id, i.category, i.metadata)) AS v (subject)
        WHERE
            h.organization_id = b.organization_id
            AND h.status = 'active'
            AND h.expires_at > a.expired_through
            AND h.expires_at <= clock_timestamp()
        GROUP BY v.subject
    ) AS e ON c.subject = e.subject
    CROSS JOIN LATERAL (SELECT greatest(c.held - coalesce(e.held, 0), 0) AS held) AS h
    WHERE c.organization_id = b.organization_id AND c.budget_id = b.id AND u.used + h.held > 0
    ORDER BY u.used + h.held DESC, c.subject
    LIMIT $3
) AS s
WHERE b.organization_id = $1 AND b.id = any($2::uuid []);

-- name: with_ended_windows
-- The organizations of the counters whose windows ended first, except those with active holds.
SELECT DISTINCT w.organization_id
FROM (
    SELECT organization_id
    FROM budget_counters
    WHERE held = 0 AND window_end <= now() - interval '1 hour'
    ORDER BY window_end
    LIMIT $1
) AS w;

-- name: purge_windows
-- Delete counters of an organization whose windows have ended, except those with active holds: a posting would start
-- them from zero. A posting that began before the end of the window, and still counts in it, has ended after an hour.
WITH old AS (
    SELECT
        budget_id,
        subject
    FROM budget_counters
    WHERE organization_id = $1 AND held = 0 AND window_end <= now() - interval '1 hour'
    ORDER BY window_end
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)

DELETE FROM budget_counters AS c
USING old AS o
WHERE c.organization_id = $1 AND c.budget_id = o.budget_id AND c.subject = o.subject
RETURNING c.budget_id;

-- name: with_removed_counters
-- The organizations of counters of budgets that were removed.
SELECT DISTINCT r.organization_id
FROM (
    SELECT c.organization_id
    FROM budgets AS b
    INNER JOIN budget_counters AS c ON b.organization_id = c.organization_id AND b.id = c.budget_id
    WHERE b.removed_at IS NOT NULL
    LIMIT $1
) AS r;

-- name: purge_removed_counters
-- Delete counters of budgets of an organization that were removed.
WITH old AS (
    SELECT
        c.budget_id,
        c.subject
    FROM budgets AS b
    INNER JOIN budget_counters AS c ON b.organization_id = c.organization_id AND b.id = c.budget_id
    WHERE b.organization_id = $1 AND b.removed_at IS NOT NULL
    LIMIT $2
    FOR UPDATE OF c SKIP LOCKED
)

DELETE FROM budget_counters AS c
USING old AS o
WHERE c.organization_id = $1 AND c.budget_id = o.budget_id AND c.subject = o.subject
RETURNING c.budget_id;

-- name: with_removed
-- The organizations of removed budgets without counters. A posting that began before the removal has ended after an
-- hour.
SELECT DISTINCT r.organization_id
FROM (
    SELECT b.organization_id
    FROM budgets AS b
    WHERE
        b.removed_at < now() - interval '1 hour'
        AND NOT EXISTS (
            SELECT FROM budget_counters AS c
            WHERE c.organization_id = b.organization_id AND c.budget_id = b.id
        )
    LIMIT $1
) AS r;

-- name: purge_removed
-- Delete removed budgets of an organization without counters.
WITH old AS (
    SELECT b.id
    FROM budgets AS b
    WHERE
        b.organization_id = $1
        AND b.removed_at < now() - interval '1 hour'
        AND NOT EXISTS (
            SELECT FROM budget_counters AS c
            WHERE c.organization_id = $1 AND c.budget_id = b.id
        )
    LIMIT $2
    FOR UPDATE OF b SKIP LOCKED
)

DELETE FROM budgets AS b
USING old AS o
WHERE b.organization_id = $1 AND b.id = o.id
RETURNING b.id;

-- name: alerts
-- The thresholds of a balance: those that the organization set, and the one for `credits.low`.
SELECT
    alert_thresholds,
    low_below
FROM accounts
WHERE organization_id = $1;

-- name: set_alerts
-- Set the thresholds of a balance.
UPDATE accounts
SET alert_thresholds = $2
WHERE organization_id = $1;
