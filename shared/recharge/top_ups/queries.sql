-- name: recent_declines
-- The number of declined top-ups since a time with the payment method that would be charged now.
SELECT count(*)
FROM charged_methods AS c
INNER JOIN recharge_attempts AS r
    ON c.organization_id = r.organization_id AND c.id = r.payment_method_id
WHERE
    c.organization_id = $1
    AND r.trigger = 'top_up'
    AND r.state = 'failed'
    AND r.reason <> 'refused'
    AND r.settled_at > $2;

-- name: cancel_armed
-- Cancel an attempt that is only armed and not leased: no request to Stripe was made. A balance that is still below
-- the threshold arms another later; a schedule is due again.
WITH canceled AS (
    UPDATE recharge_attempts
    SET
        state = 'canceled',
        reason = 'canceled',
        detail = 'the customer tops up by hand',
        settled_at = $2
    WHERE organization_id = $1 AND state = 'armed' AND lease_token IS NULL
    RETURNING
        organization_id,
        id,
        trigger
),

due_again AS (
    UPDATE auto_recharges AS s
    SET next_run_at = $2
    FROM canceled AS g
    WHERE s.organization_id = g.organization_id AND g.trigger = 'schedule' AND s.schedule IS NOT NULL
)

SELECT id
FROM canceled;

-- name: begin_top_up
-- Store a charge that the customer requests, under the lease of this process. The card is the one that a recharge
-- would charge. Returns no row without a card, or while another attempt is live.
INSERT INTO recharge_attempts (
    organization_id,
    id,
    state,
    trigger,
    amount,
    amount_minor,
    currency,
    customer_id,
    payment_method_id,
    payment_method_type,
    stripe_account,
    credits_per_unit,
    created_at,
    charged_at,
    due_at,
    lease_token,
    tries,
    key_id
)
SELECT
    c.organization_id,
    $2,
    'charging',
    'top_up',
    $3,
    $4,
    $5,
    c.customer_id,
    c.id,
    c.type,
    c.stripe_account,
    $9,
    $6,
    $6,
    now() + $8::interval,
    $7,
    1,
    $10
FROM charged_methods AS c
WHERE c.organization_id = $1
ON CONFLICT DO NOTHING
RETURNING *;

-- name: top_ups_of_organization
-- The top-ups of an organization since a time that were charged or may still be. One that waits for its customer is
-- excluded, because the next one replaces it.
SELECT
    count(*) AS count,
    coalesce(sum(amount_minor), 0)::bigint AS amount_minor
FROM recharge_attempts
WHERE
    organization_id = $1
    AND created_at >= $2
    AND trigger = 'top_up'
    AND state NOT IN ('failed', 'canceled')
    AND state <> 'requires_action';

-- name: top_ups_of_key
-- The top-ups of an API key since a time that were charged or may still be, likewise.
SELECT
    currency,
    count(*) AS count,
    sum(amount_minor)::bigint AS amount_minor
FROM recharge_attempts
WHERE
    key_id = $1
    AND created_at >= $3
    AND trigger = 'top_up'
    AND state NOT IN ('failed', 'canceled')
    AND NOT (organization_id = $2 AND state = 'requires_action')
GROUP BY currency;

-- name: lock_key
-- Serialize the top-ups of an API key.
SELECT id
FROM api_keys
WHERE id = $1
FOR NO KEY UPDATE;
