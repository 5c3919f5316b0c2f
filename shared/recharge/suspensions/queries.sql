-- name: suspend
-- Suspend an active auto-recharge, or replace a reason that this one outranks ($5). While it is off, or before there is
-- a rule, a reason that only a person ends ($6) is stored and applies when it is turned on. Returns a row if it was
-- suspended or its reason was replaced.
WITH suspended AS (
    INSERT INTO auto_recharges AS s (organization_id, state, held_reason, held_detail)
    SELECT
        $1,
        'off',
        CASE WHEN $6::boolean THEN $2::text END,
        CASE WHEN $6::boolean THEN $3::text END
    WHERE $6 OR EXISTS (SELECT FROM auto_recharges AS found WHERE found.organization_id = $1)
    ON CONFLICT (organization_id) DO UPDATE
    SET
        state = CASE WHEN s.state = 'off' THEN 'off' ELSE 'suspended' END,
        reason = CASE WHEN s.state <> 'off' THEN $2 END,
        detail = CASE WHEN s.state <> 'off' THEN $3 END,
        suspended_until = CASE WHEN s.state <> 'off' THEN $4::timestamptz END,
        held_reason = CASE WHEN s.state = 'off' THEN $2 END,
        held_detail = CASE WHEN s.state = 'off' THEN $3 END,
        updated_at = excluded.updated_at
    WHERE
        s.state IN ('active', 'paused_requires_action')
        OR (s.state = 'suspended' AND s.reason = any($5::text []))
        OR (s.state = 'off' AND $6 AND (s.held_reason IS NULL OR s.held_reason = any($5::text [])))
    RETURNING
        s.organization_id,
        s.state
)

UPDATE accounts AS a
SET recharge_below = NULL
FROM suspended AS s
WHERE a.organization_id = s.organization_id
RETURNING s.state;

-- name: resume
-- Resume an auto-recharge that is suspended for one of these reasons; if it is off, discard the stored reason.
WITH resumed AS (
    UPDATE auto_recharges
    SET
        state = CASE WHEN state = 'suspended' THEN 'active' ELSE state END,
        reason = NULL,
        detail = NULL,
        suspended_until = NULL,
        declines_in_row = CASE WHEN $3::boolean THEN 0 ELSE declines_in_row END,
        not_before = CASE WHEN $3::boolean THEN NULL ELSE not_before END,
        held_reason = NULL,
        held_detail = NULL,
        updated_at = now()
    WHERE
        organization_id = $1
        AND (
            (state = 'suspended' AND reason = any($2::text []))
            OR (state = 'off' AND held_reason = any($2::text []))
        )
    RETURNING
        organization_id,
        state,
        threshold
)

UPDATE accounts AS a
SET recharge_below = CASE WHEN r.state = 'active' THEN r.threshold END
FROM resumed AS r
WHERE a.organization_id = r.organization_id
RETURNING a.organization_id;

-- name: end_wait
-- End the wait after a decline: another card is on file, and an armed attempt is due now.
WITH waited AS (
    UPDATE auto_recharges
    SET declines_in_row = 0, not_before = NULL, updated_at = now()
    WHERE organization_id = $1 AND state IN ('active', 'paused_requires_action') AND declines_in_row > 0
    RETURNING organization_id
)

UPDATE recharge_attempts AS r
SET
    rung = TRUE,
    due_at = least(r.due_at, greatest(now(), CASE WHEN r.lease_token IS NOT NULL THEN 'infinity'::timestamptz END))
FROM waited AS w
WHERE r.organization_id = w.organization_id AND r.state = 'armed'
RETURNING r.organization_id;

-- name: expire_links_of_other_cards
-- End the link of an attempt that waits for its customer if another card would be charged now: a worker cancels its
-- PaymentIntent. One that was authenticated just before succeeds.
UPDATE recharge_attempts AS r
SET
    rung = TRUE,
    link_expires_at = now(),
    due_at = least(r.due_at, greatest(now(), CASE WHEN r.lease_token IS NOT NULL THEN 'infinity'::timestamptz END))
FROM charged_methods AS c
WHERE
    r.organization_id = c.organization_id
    AND r.organization_id = $1
    AND r.state = 'requires_action'
    AND r.trigger <> 'top_up'
    AND r.link_expires_at > now()
    AND r.payment_method_id <> c.id
RETURNING r.organization_id;

-- name: pause
-- Arm no attempts while the customer must act.
WITH paused AS (
    UPDATE auto_recharges
    SET state = 'paused_requires_action', updated_at = now()
    WHERE organization_id = $1 AND state = 'active'
    RETURNING organization_id
)

UPDATE accounts AS a
SET recharge_below = NULL
FROM paused AS p
WHERE a.organization_id = p.organization_id;

-- name: unpause
-- Arm attempts again: the customer has authenticated, or the link has ended.
WITH resumed AS (
    UPDATE auto_recharges
    SET state = 'active', updated_at = now()
    WHERE organization_id = $1 AND state = 'paused_requires_action'
    RETURNING
        organization_id,
        threshold
)

UPDATE accounts AS a
SET recharge_below = r.threshold
FROM resumed AS r
WHERE a.organization_id = r.organization_id;

-- name: record_success
-- Clear the declines and the wait for the customer after a success; start the pause before the next charge.
WITH cleared AS (
    UPDATE auto_recharges
    SET
        state = CASE WHEN state = 'paused_requires_action' THEN 'active' ELSE state END,
        declines_in_row = 0,
        not_before = ($2::timestamptz AT TIME ZONE 'UTC' + make_interval(secs => pause_seconds_min)) AT TIME ZONE 'UTC',
        updated_at = now()
    WHERE organization_id = $1
    RETURNING
        organization_id,
        state,
        threshold
)

UPDATE accounts AS a
SET recharge_below = c.threshold
FROM cleared AS c
WHERE
    a.organization_id = c.organization_id
    AND c.state = 'active'
    AND a.recharge_below IS DISTINCT FROM c.threshold;

-- name: record_decline
-- Count a decline, and wait after it.
UPDATE auto_recharges
SET declines_in_row = $2, not_before = $3, updated_at = now()
WHERE organization_id = $1;

-- name: has_open_inquiry
-- Whether a payment of an organization is under inquiry.
SELECT EXISTS (
    SELECT FROM stripe_disputes
    WHERE organization_id = $1 AND status LIKE 'warning%' AND closed_at IS NULL
);
