-- name: verify_rows
-- Check the rows after one: hashes, balances, seqs, moments, the grants and holds that they opened or ended, and
-- the hash of the last checkpoint. Returns how far it went, the last row of each ledger, and the first
-- problems. OFFSET 0 keeps each EXISTS a look-up: hashed, it would read its whole table for each run.
WITH page AS (
    SELECT t.*
    FROM ledger_page($1, $2, $3, $4) AS t
),

linked AS (
    SELECT
        p.organization_id,
        p.seq,
        p.id,
        p.balance_after,
        p.consumed_after,
        p.amount,
        p.hash,
        p.type,
        p.created_at,
        p.idempotency_key,
        p.grant_id,
        p.hold_id,
        p.payment_intent_id,
        ledger_row_hash(
            coalesce(lag(p.hash) OVER rows_of_one, before.hash, '\x'::bytea),
            row(
                p.organization_id,
                p.seq,
                p.id,
                p.type,
                p.amount,
                p.counterparty,
                p.balance_after,
                p.consumed_after,
                p.idempotency_key,
                p.request_digest,
                p.effective_at,
                p.created_at,
                p.description,
                p.category,
                p.quantity,
                p.user_id,
                p.grant_id,
                p.hold_id,
                p.payment_intent_id,
                p.metadata,
                p.hash
            )::credit_transactions
        ) AS expected_hash,
        coalesce(lag(p.seq) OVER rows_of_one, before.seq, 0) AS seq_before,
        coalesce(lag(p.balance_after) OVER rows_of_one, before.balance_after, 0) AS balance_before,
        coalesce(lag(p.consumed_after) OVER rows_of_one, before.consumed_after, 0)
            AS consumed_before,
        coalesce(
            lag(p.created_at) OVER rows_of_one,
            before.created_at,
            (SELECT o.created_at FROM organizations AS o WHERE o.id = p.organization_id)
        ) AS created_before
    FROM page AS p
    LEFT JOIN ledger_row_at($1, $2) AS before ON p.organization_id = before.organization_id
    WINDOW rows_of_one AS (PARTITION BY p.organization_id ORDER BY p.seq)
),

problems AS (
    SELECT
        l.organization_id,
        l.seq,
        l.id,
        CASE
            WHEN l.seq <> l.seq_before + 1 THEN 'seq has a gap before this row'
            WHEN l.hash <> l.expected_hash THEN 'hash does not fit the row or the row before it'
            WHEN l.balance_after <> l.balance_before + l.amount
                THEN 'balance_after is not the balance before plus the amount'
            WHEN l.consumed_after < l.consumed_before THEN 'consumed_after goes back'
            WHEN l.created_at < l.created_before THEN 'created_at goes back'
            WHEN
                l.amount > 0
                AND NOT ledger_has_opened(l.organization_id, l.seq, l.id)
                THEN 'the grant that this row opened is missing'
            WHEN
                l.type IN ('expiration', 'void')
                AND NOT ledger_has_ended(l.organization_id, l.grant_id, l.type, l.created_at)
                THEN 'the grant that this row ended does not say so: ' || l.grant_id
            WHEN
                l.type = 'hold_capture'
                AND NOT ledger_has_captured(
                    l.organization_id, l.hold_id, l.id, l.amount, l.idempotency_key, l.created_at
                )
                THEN 'the hold that this row captured does not say so: ' || l.hold_id
            WHEN
                l.type IN ('purchase', 'recharge')
                AND starts_with(l.idempotency_key, 'stripe')
                AND l.payment_intent_id IS NOT NULL
                AND NOT EXISTS (
                    SELECT FROM stripe_payments AS s
                    WHERE
                        s.payment_intent_id = l.payment_intent_id
                        AND s.organization_id = l.organization_id
                    OFFSET 0
                )
                THEN 'the payment of this row is missing: ' || l.payment_intent_id
            WHEN c.hash <> l.hash THEN 'the row has changed since it was verified'
        END AS problem
    FROM linked AS l
    LEFT JOIN ledger_checkpoints AS c ON l.organization_id = c.organization_id AND l.seq = c.seq
)

SELECT
    (SELECT count(*) FROM page) AS rows,
    (
        SELECT p.organization_id FROM page AS p ORDER BY p.organization_id DESC, p.seq DESC LIMIT 1
    ) AS last_organization_id,
    (
        SELECT p.seq FROM page AS p ORDER BY p.organization_id DESC, p.seq DESC LIMIT 1
    ) AS last_seq,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_array(h.organization_id, h.seq, encode(h.hash, 'hex'))), '[]')
        FROM (
            SELECT DISTINCT ON (p.organization_id)
                p.organization_id,
                p.seq,
                p.hash
            FROM page AS p
            ORDER BY p.organization_id, p.seq DESC
        ) AS h
    ) AS heads,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_array(q.organization_id, q.seq, q.id, q.problem)), '[]')
        FROM (SELECT * FROM problems WHERE problem IS NOT NULL LIMIT 100) AS q
    ) AS problems;
