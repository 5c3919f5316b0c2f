-- name: newest_transaction_id
-- The id of this transaction: those that have written by now have lower ids. The upper end of a snapshot would not do,
-- since it leaves out transactions in progress that began after the last one that ended.
SELECT pg_current_xact_id()::text::bigint;

-- name: oldest_transaction_id
-- The id of the oldest transaction that has written and is in progress, else one above those that ended.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint;

-- name: heads
-- A page of the ledgers that have rows, after an organization: their rows from a moment until another, the balances
-- and the consumption that no grant has paid for.
SELECT
    organization_id,
    currency,
    before_seq,
    last_seq,
    opening,
    closing,
    debt_opening,
    debt_closing,
    last_hash
FROM ledger_heads_between($1, $2, $3, $4)
ORDER BY organization_id;

-- name: movements
-- The movements of some ledgers, by currency and whether a payment paid for the grants, with the money behind them in
-- the smallest unit. A payment has its net price, and the gross where that is not known.
SELECT
    coalesce(p.currency, w.currency) AS currency,
    p.currency IS NOT NULL AS paid,
    sum(m.added_before - m.taken_before) AS opening,
    sum(m.added) AS added,
    sum(m.returned) AS returned,
    sum(m.used) AS used,
    sum(m.refunded) AS refunded,
    sum(m.expired) AS expired,
    sum(m.adjusted) AS adjusted,
    sum(m.voided) AS voided,
    sum(v.added_before - v.taken_before) AS opening_minor,
    sum(v.added - v.added_before) AS added_minor,
    sum(v.used - v.taken_before) AS recognised_minor,
    sum(v.refunded - v.used - v.returned + v.added) AS refunded_minor,
    sum(v.expired - v.refunded) AS breakage_minor,
    sum(v.adjusted - v.expired) AS adjusted_minor,
    sum(v.returned - v.adjusted) AS closing_minor
FROM unnest($1::uuid [], $2::text [], $3::bigint [], $4::bigint []) AS w (
    organization_id, currency, before_seq, last_seq
)
CROSS JOIN LATERAL ledger_movements(w.organization_id, w.before_seq, w.last_seq) AS m
LEFT JOIN LATERAL (
    SELECT
        k.currency,
        k.credits,
        coalesce(k.net_minor, k.amount_minor) AS minor
    FROM stripe_payments AS k
    WHERE k.payment_intent_id = m.payment_intent_id AND k.organization_id = w.organization_id
    LIMIT 1
) AS p ON TRUE
-- The money of the credits until each line, one after the other: what they leave is the money of the rest, and a
-- payment whose credits are all taken has left nothing.
CROSS JOIN LATERAL (
    SELECT
        ledger_money(p.minor, p.credits, m.added_before) AS added_before,
        ledger_money(p.minor, p.credits, m.added_before + m.added) AS added,
        ledger_money(p.minor, p.credits, m.added_before + m.added + m.returned) AS returned,
        ledger_money(p.minor, p.credits, m.taken_before) AS taken_before,
        ledger_money(p.minor, p.credits, m.taken_before + m.used) AS used,
        ledger_money(p.minor, p.credits, m.taken_before + m.used + m.refunded) AS refunded,
        ledger_money(p.minor, p.credits, m.taken_before + m.used + m.refunded + m.expired) AS expired,
        ledger_money(
            p.minor, p.credits, m.taken_before + m.used + m.refunded + m.expired + m.adjusted + m.voided
        ) AS adjusted
) AS v
GROUP BY 1, 2;

-- name: accounts
-- What the rows of some ledgers added to each system account.
SELECT
    c.account,
    -sum(c.amount) AS amount
FROM unnest($1::uuid [], $2::bigint [], $3::bigint []) AS w (organization_id, before_seq, last_seq)
CROSS JOIN LATERAL ledger_counterparties(w.organization_id, w.before_seq, w.last_seq) AS c
GROUP BY 1;

-- name: stored
-- The close of a month.
SELECT
    document,
    sha256
FROM finance_closes
WHERE month = $1;

-- name: latest_before
-- The latest close of an earlier month.
SELECT
    document,
    sha256
FROM finance_closes
WHERE month < $1
ORDER BY month DESC
LIMIT 1;

-- name: keep
-- Store the close of a month, unless it is stored already; return the month if it was stored.
INSERT INTO finance_closes (month, closed_at, document, sha256)
VALUES ($1, $2, $3, sha256(convert_to($3, 'UTF8')))
ON CONFLICT (month) DO NOTHING
RETURNING month;
