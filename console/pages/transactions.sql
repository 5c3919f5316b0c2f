-- name: funding
-- Grants of an organization with their ledger rows, and the payments, purchases and attempts that brought them.
-- OFFSET 0 keeps each join a look-up.
SELECT
    g.id,
    g.transaction_id,
    g.seq,
    g.original,
    g.remaining,
    g.promotional,
    g.expires_at,
    g.payment_intent_id,
    t.type,
    t.idempotency_key,
    t.created_at,
    p.amount_minor,
    p.currency,
    p.charge_id,
    p.receipt_url,
    u.id AS purchase_id,
    u.checkout_session_id,
    r.id AS attempt_id
FROM unnest($2::uuid []) WITH ORDINALITY AS k (id, place)
CROSS JOIN LATERAL (
    SELECT *
    FROM credit_grants
    WHERE organization_id = $1 AND id = k.id
    OFFSET 0
) AS g
CROSS JOIN LATERAL (
    SELECT *
    FROM credit_transactions
    WHERE organization_id = $1 AND seq = g.seq
    OFFSET 0
) AS t
LEFT JOIN stripe_payments AS p ON g.payment_intent_id = p.payment_intent_id AND p.organization_id = $1
LEFT JOIN purchases AS u ON g.payment_intent_id = u.payment_intent_id AND u.organization_id = $1
LEFT JOIN recharge_attempts AS r ON g.payment_intent_id = r.payment_intent_id AND r.organization_id = $1
ORDER BY k.place;

-- name: payment_events
-- The events of an organization that name one of its payments, among those that arrived next to its credit: $4 before
-- it, $4 after it. Events have no index by payment.
SELECT
    k.payment_intent_id,
    e.id,
    e.type,
    e.state,
    e.received_at
FROM unnest($2::text [], $3::timestamptz []) AS k (payment_intent_id, credited_at)
CROSS JOIN LATERAL (
    (
        SELECT *
        FROM stripe_events
        WHERE received_at <= k.credited_at
        ORDER BY received_at DESC, id DESC
        LIMIT $4
    )
    UNION ALL
    (
        SELECT *
        FROM stripe_events
        WHERE received_at > k.credited_at
        ORDER BY received_at, id
        LIMIT $4
    )
) AS e
WHERE e.organization_id = $1 AND strpos(e.payload, k.payment_intent_id) > 0
ORDER BY e.received_at, e.id
LIMIT $5;

-- name: key_name
-- The name of an API key.
SELECT name
FROM api_keys
WHERE id = $1;
