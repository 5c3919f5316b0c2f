-- name: verify_captures
-- Check what holds captured against the rows of their captures.
SELECT
    h.organization_id,
    NULL::bigint AS seq,
    NULL::uuid AS transaction_id,
    'no row says what a hold captured: ' || h.id AS problem
FROM holds AS h
LEFT JOIN (
    SELECT
        t.organization_id,
        t.hold_id,
        -sum(t.amount) AS amount,
        array_agg(t.id) AS ids
    FROM credit_transactions AS t
    WHERE t.organization_id = any($1::uuid []) AND t.type = 'hold_capture'
    GROUP BY 1, 2
) AS c
    ON h.organization_id = c.organization_id AND h.id = c.hold_id
WHERE
    h.organization_id = any($1::uuid [])
    AND (
        h.captured_amount <> coalesce(c.amount, 0)
        OR (h.captured_by = any(c.ids)) IS FALSE
        OR (h.captured_by IS NOT NULL AND c.ids IS NULL)
    )
ORDER BY h.organization_id, h.id
LIMIT $2;

-- name: verify_payments
-- Check payments against their credits and reversals.
SELECT
    p.organization_id,
    credited.seq,
    credited.transaction_id,
    checked.problem || ': ' || p.payment_intent_id AS problem
FROM stripe_payments AS p
CROSS JOIN LATERAL ledger_credited(p.organization_id, p.payment_intent_id) AS credited
CROSS JOIN LATERAL ledger_reversed(p.organization_id, p.payment_intent_id, p.reversals + 1) AS reversed
CROSS JOIN LATERAL (
    VALUES
    (
        CASE
            WHEN credited.seq IS NULL THEN 'no row of its organization credits a payment'
            WHEN p.credits <> credited.amount THEN 'credits of a payment are not those of its rows'
        END
    ),
    (
        CASE
            WHEN (p.reversed, p.reversals) <> (reversed.amount, reversed.steps)
                THEN 'reversed of a payment is not what its refunds and disputes took back'
        END
    )
) AS checked (problem)
WHERE p.organization_id = any($1::uuid []) AND checked.problem IS NOT NULL
ORDER BY p.organization_id, p.payment_intent_id
LIMIT $2;

-- name: verify_attempts
-- Check recharge attempts that succeeded against their credits.
SELECT
    r.organization_id,
    t.seq,
    t.id AS transaction_id,
    'no row credits a recharge attempt that succeeded: ' || r.id AS problem
FROM recharge_attempts AS r
LEFT JOIN credit_transactions AS t
    ON
        r.organization_id = t.organization_id
        AND t.idempotency_key = 'stripe:' || r.payment_intent_id
WHERE
    r.organization_id = any($1::uuid [])
    AND r.state = 'succeeded'
    AND t.id IS NULL
ORDER BY r.organization_id, r.id
LIMIT $2;

-- name: verify_invoices
-- Check invoices that were credited against their first rows.
SELECT
    i.organization_id,
    NULL::bigint AS seq,
    NULL::uuid AS transaction_id,
    'no row of its organization credits an invoice: ' || i.invoice_id AS problem
FROM stripe_invoices AS i
WHERE
    i.organization_id = any($1::uuid [])
    AND ledger_seq_of(i.organization_id, 'stripe-invoice:' || i.invoice_id) IS NULL
ORDER BY i.organization_id, i.invoice_id
LIMIT $2;
