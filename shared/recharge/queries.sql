-- name: suspend
-- Suspend an auto-recharge that may charge, or refine why it may not. Nothing arms it any more.
WITH suspended AS (
    UPDATE auto_recharges
    SET
        state = 'suspended',
        reason = $2,
        detail = $3,
        suspended_until = $4,
        declined_fingerprint = coalesce($5, declined_fingerprint),
        updated_at = now()
    WHERE organization_id = $1 AND state IN ('active', 'paused_requires_action')
    RETURNING organization_id
)

UPDATE accounts AS a
SET recharge_below = NULL
FROM suspended AS s
WHERE a.organization_id = s.organization_id
RETURNING a.organization_id;

-- name: resume
-- Let a suspended auto-recharge charge again, if it is suspended for one of these reasons.
WITH resumed AS (
    UPDATE auto_recharges
    SET
        state = 'active',
        reason = NULL,
        detail = NULL,
        suspended_until = NULL,
        declines_in_row = 0,
        not_before = NULL,
        declined_fingerprint = NULL,
        updated_at = now()
    WHERE organization_id = $1 AND state = 'suspended' AND reason = any($2::text [])
    RETURNING
        organization_id,
        threshold
)

UPDATE accounts AS a
SET recharge_below = r.threshold
FROM resumed AS r
WHERE a.organization_id = r.organization_id
RETURNING a.organization_id;

-- name: ring
-- Have a worker look at the live attempts of these payments now.
UPDATE recharge_attempts
SET due_at = least(due_at, now())
WHERE
    payment_intent_id = any($1::text [])
    AND state IN ('charging', 'processing', 'requires_action', 'unknown')
    AND lease_token IS NULL;
