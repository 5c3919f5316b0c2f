-- name: verify_accounts
-- Check accounts against their last row, their grants, their holds, their burn segments, their
-- auto-recharge, and what the audit log says. Closings and reopenings are ordered by their ids, which are made under the
-- account's lock; `at` is when their transaction began.
SELECT
    a.organization_id,
    NULL::bigint AS seq,
    NULL::uuid AS transaction_id,
    checked.problem
FROM unnest($1::uuid []) AS o (id)
CROSS JOIN LATERAL ledger_account(o.id) AS a
LEFT JOIN LATERAL ledger_row_at(a.organization_id, a.last_seq) AS t ON TRUE
CROSS JOIN LATERAL ledger_sums(a) AS sums
LEFT JOIN ledger_checkpoints AS c ON a.organization_id = c.organization_id
CROSS JOIN LATERAL (
    SELECT
        (
            SELECT (l.details ->> 'overdraftLimitDecimillicents')::numeric
            FROM audit_log AS l
            WHERE
                l.subject = a.organization_id::text
                AND l.action = 'billing.overdraft'
                AND l.organization_id = a.organization_id
            ORDER BY l.at DESC, l.id DESC
            LIMIT 1
        ) AS overdraft_limit,
        (
            SELECT l.action = 'organizations.close'
            FROM audit_log AS l
            WHERE
                l.subject = a.organization_id::text
                AND l.action IN ('organizations.close', 'organizations.reopen')
                AND l.organization_id = a.organization_id
            ORDER BY l.id DESC
            LIMIT 1
        ) AS closed
) AS audited
CROSS JOIN LATERAL (
    VALUES
    (
        CASE
            WHEN a.last_seq > 0 AND t.seq IS NULL THEN 'the last row is missing'
            WHEN sums.has_more_rows THEN 'there are rows behind the last one'
        END
    ),
    (
        CASE
            WHEN a.balance <> coalesce(t.balance_after, 0)
                THEN 'the balance is not that of the last row'
        END
    ),
    (
        CASE
            WHEN a.last_hash <> coalesce(t.hash, '\x'::bytea)
                THEN 'the last hash is not that of the last row'
        END
    ),
    (
        CASE
            WHEN a.consumed <> coalesce(t.consumed_after, 0)
                THEN 'what was consumed is not what the last row says'
        END
    ),
    (
        CASE
            WHEN sums.remaining <> greatest(a.balance - a.expired, 0)
                THEN 'what is left of the grants is not the balance'
        END
    ),
    (
        CASE
            WHEN sums.expired <> a.expired
                THEN 'what has expired is not what is left of the grants that have'
        END
    ),
    (CASE WHEN sums.held <> a.held THEN 'held is not the sum of the active holds' END),
    (
        CASE
            WHEN
                sums.overlap OR sums.gap
                OR sums.covered + greatest(a.expired - a.balance, 0) <> a.consumed
                THEN 'burn segments do not cover exactly what was consumed'
        END
    ),
    (
        CASE
            WHEN c.seq > a.last_seq THEN 'rows that were verified are missing: the last was ' || c.seq
        END
    ),
    (
        CASE
            WHEN t.created_at > a.updated_at THEN 'created_at of the last row is after updated_at'
        END
    ),
    (
        CASE
            WHEN sums.burning_grant_id IS DISTINCT FROM a.burning_grant_id
                THEN 'burning_grant_id is not the grant of the open segment'
        END
    ),
    (
        -- It may be early where the expiring credits are gone: the next expiry run corrects it.
        CASE
            WHEN
                sums.next_due_at IS DISTINCT FROM a.next_due_at
                AND (
                    a.next_due_at IS NULL
                    OR a.next_due_at > sums.next_due_at
                    OR NOT sums.has_next_due
                )
                THEN 'next_due_at is not when the next grant or hold expires'
        END
    ),
    (
        CASE
            WHEN a.overdraft_limit <> coalesce(audited.overdraft_limit, 0)
                THEN 'overdraft_limit is not what the audit log says'
        END
    ),
    (
        CASE
            WHEN (a.closed_at IS NOT NULL) <> coalesce(audited.closed, FALSE)
                THEN 'closed_at is not what the audit log says'
        END
    ),
    (
        CASE
            WHEN a.recharge_below IS DISTINCT FROM sums.threshold
                THEN 'recharge_below is not the threshold of the auto-recharge rule'
        END
    )
) AS checked (problem)
WHERE checked.problem IS NOT NULL
ORDER BY a.organization_id
LIMIT $2;
