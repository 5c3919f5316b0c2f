-- name: rules_after
-- A page of the organizations with a rule, on or off, by id.
SELECT organization_id
FROM auto_recharges
WHERE organization_id > $1
ORDER BY organization_id
LIMIT $2;

-- name: due
-- The organizations for which something is due: an ended suspension, a due schedule, or a missed attempt (after a debit
-- before the rule was saved, an ended wait, a charge that did not reach the threshold, or a top-up that waits for its
-- customer). Missed attempts are searched among these organizations ($3) and those whose wait ended in the last minute.
-- They are in the order in which postings lock accounts.
SELECT a.organization_id
FROM accounts AS a
WHERE a.organization_id IN (
    (
        SELECT s.organization_id
        FROM auto_recharges AS s
        WHERE s.state = 'suspended' AND s.suspended_until <= $1
        ORDER BY s.suspended_until
        LIMIT $2
    )
    UNION ALL
    (
        SELECT s.organization_id
        FROM auto_recharges AS s
        WHERE s.state = 'active' AND s.next_run_at <= $1
        ORDER BY s.next_run_at
        LIMIT $2
    )
    UNION ALL
    (
        SELECT s.organization_id
        FROM (
            SELECT unnest($3::uuid [])
            UNION ALL
            (
                SELECT w.organization_id
                FROM auto_recharges AS w
                WHERE
                    w.state = 'active'
                    AND w.not_before <= now()
                    AND w.not_before > now() - interval '1 minute'
                ORDER BY w.not_before DESC
                LIMIT $2
            )
        ) AS looked_at (organization_id)
        INNER JOIN auto_recharges AS s ON looked_at.organization_id = s.organization_id
        INNER JOIN accounts AS b ON s.organization_id = b.organization_id
        WHERE
            s.state = 'active'
            AND b.balance - b.expired - b.held < b.recharge_below
            AND NOT b.recharge_waits
            AND (s.not_before IS NULL OR s.not_before <= now())
            AND NOT EXISTS (
                SELECT FROM recharge_attempts AS r
                WHERE
                    r.organization_id = s.organization_id
                    AND r.state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
                    -- A top-up that waits for its customer is canceled, unless its link has ended already.
                    AND (r.trigger <> 'top_up' OR r.state <> 'requires_action' OR r.link_expires_at <= $1)
            )
    )
)
ORDER BY a.organization_id;

-- name: lock
-- Lock the account of an organization; no row: another transaction has locked it.
SELECT organization_id
FROM accounts
WHERE organization_id = $1
FOR NO KEY UPDATE SKIP LOCKED;

-- name: expire_top_ups
-- End the links of top-ups that wait for their customers, where auto-recharge has an amount to charge: a worker
-- cancels their PaymentIntents. One that was authenticated just before succeeds.
UPDATE recharge_attempts AS r
SET
    rung = TRUE,
    link_expires_at = $1,
    due_at = least(r.due_at, greatest(now(), CASE WHEN r.lease_token IS NOT NULL THEN 'infinity'::timestamptz END))
FROM accounts AS a
INNER JOIN auto_recharges AS s ON a.organization_id = s.organization_id
WHERE
    r.organization_id = a.organization_id
    AND r.organization_id = any($2::uuid [])
    AND a.organization_id = any($2::uuid [])
    AND r.state = 'requires_action'
    AND r.trigger = 'top_up'
    AND r.link_expires_at > $1
    AND s.state = 'active'
    AND a.balance - a.expired - a.held < a.recharge_below
    AND NOT a.recharge_waits
    AND (s.not_before IS NULL OR s.not_before <= now())
RETURNING r.organization_id;

-- name: scheduled
-- The due schedules of these organizations. Of two concurrent workers, the second gets none.
SELECT
    organization_id,
    schedule,
    schedule_day
FROM auto_recharges
WHERE organization_id = any($2::uuid []) AND state = 'active' AND next_run_at <= $1
ORDER BY next_run_at;

-- name: arm_scheduled
-- Arm a scheduled attempt, unless another attempt is live.
INSERT INTO recharge_attempts (organization_id, id, trigger, created_at)
VALUES ($1, $2, 'schedule', $3)
ON CONFLICT (organization_id)
WHERE state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
DO NOTHING
RETURNING organization_id;

-- name: run_next
-- Set when the schedule of an organization is due next.
UPDATE auto_recharges
SET next_run_at = $2
WHERE organization_id = $1;

-- name: end_suspensions
-- End the suspensions of these organizations whose time has passed, such as a cap in a new month.
WITH resumed AS (
    UPDATE auto_recharges
    SET
        state = 'active',
        reason = NULL,
        detail = NULL,
        suspended_until = NULL,
        updated_at = now()
    WHERE organization_id = any($2::uuid []) AND state = 'suspended' AND suspended_until <= $1
    RETURNING
        organization_id,
        threshold
)

UPDATE accounts AS a
SET recharge_below = r.threshold
FROM resumed AS r
WHERE a.organization_id = r.organization_id;

-- name: due_again
-- Make a schedule due again whose attempt was canceled without a charge.
UPDATE auto_recharges
SET next_run_at = $2
WHERE organization_id = $1 AND schedule IS NOT NULL;
