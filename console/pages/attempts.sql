-- name: live
-- A page of the live attempts, the next due first.
SELECT
    r.*,
    o.slug
FROM recharge_attempts AS r
INNER JOIN organizations AS o ON r.organization_id = o.id
WHERE
    r.state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
    AND ($1::text IS NULL OR r.state = $1)
    AND ($2::timestamptz IS NULL OR (r.due_at, r.id) > ($2, $3::uuid))
ORDER BY r.due_at, r.id
LIMIT $4;

-- name: ended
-- Attempts that ended, the last first: those in a state among the last $5. The slug is looked up by
-- row, since a join may read every organization where statistics are old.
SELECT
    r.*,
    (SELECT o.slug FROM organizations AS o WHERE o.id = r.organization_id) AS slug
FROM (
    SELECT *
    FROM recharge_attempts
    WHERE
        settled_at IS NOT NULL
        AND ($2::timestamptz IS NULL OR settled_at <= $2)
        AND ($2::timestamptz IS NULL OR (settled_at, id) < ($2, $3::uuid))
    ORDER BY settled_at DESC
    LIMIT $5
) AS r
WHERE $1::text IS NULL OR r.state = $1
ORDER BY r.settled_at DESC, r.id DESC
LIMIT $4;

-- name: of_organization
-- An organization's attempts, newest first: those in a state among the newest $6.
SELECT
    r.*,
    o.slug
FROM (
    SELECT *
    FROM recharge_attempts
    WHERE
        organization_id = $5
        AND (created_at, id) < (
            coalesce($2::timestamptz, 'infinity'),
            coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        )
    ORDER BY created_at DESC, id DESC
    LIMIT $6
) AS r
INNER JOIN organizations AS o ON r.organization_id = o.id
WHERE $1::text IS NULL OR r.state = $1
ORDER BY r.created_at DESC, r.id DESC
LIMIT $4;

-- name: attempt
-- An attempt with its organization, and the state of the organization's auto-recharge.
SELECT
    r.*,
    o.slug,
    s.state AS recharge_state,
    s.reason AS recharge_reason,
    s.detail AS recharge_detail
FROM recharge_attempts AS r
INNER JOIN organizations AS o ON r.organization_id = o.id
LEFT JOIN auto_recharges AS s ON r.organization_id = s.organization_id
WHERE r.id = $1;

-- name: ledger_row
-- The row of the ledger that a payment brought.
SELECT
    id,
    type,
    amount,
    created_at
FROM credit_transactions
WHERE organization_id = $1 AND idempotency_key = $2;

-- name: waiting
-- A page of the attempts whose customer must authenticate, the soonest deadline first.
SELECT
    r.organization_id,
    r.id,
    r.trigger,
    r.amount,
    r.amount_minor,
    r.currency,
    r.charged_at,
    r.due_at,
    r.link_expires_at,
    o.slug,
    o.email,
    s.state AS recharge_state
FROM recharge_attempts AS r
INNER JOIN organizations AS o ON r.organization_id = o.id
LEFT JOIN auto_recharges AS s ON r.organization_id = s.organization_id
WHERE
    r.state = 'requires_action'
    AND ($1::uuid IS NULL OR r.organization_id = $1)
    AND ($2::timestamptz IS NULL OR (r.due_at, r.id) > ($2, $3::uuid))
ORDER BY r.due_at, r.id
LIMIT $4;
