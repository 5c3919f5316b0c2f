-- name: erase_organization
-- Replace the name of an organization by a pseudonym, and remove its e-mail address; returns no row where it is so.
UPDATE organizations
SET
    name = $2,
    email = NULL,
    updated_at = now()
WHERE id = $1 AND (name <> $2 OR email IS NOT NULL)
RETURNING id;

-- name: mark_erased
-- Record when a closed organization was first erased; returns no row for an open one.
UPDATE accounts
SET erased_at = least(erased_at, now())
WHERE organization_id = $1 AND closed_at IS NOT NULL
RETURNING organization_id;

-- name: customers
-- The Stripe customers that an organization has or had.
SELECT stripe_customer_id AS customer_id
FROM organizations
WHERE id = $1 AND stripe_customer_id IS NOT NULL
UNION
SELECT customer_id
FROM payment_methods
WHERE organization_id = $1
UNION
SELECT customer_id
FROM stripe_payments
WHERE organization_id = $1 AND customer_id IS NOT NULL;

-- name: events_page
-- A page of all events, newest first, before a cursor. An event is the organization's by its column or, without one, by
-- an id in its payload. Whether it has finished decides whether its payload can be erased.
SELECT
    e.account,
    e.livemode,
    e.id,
    e.received_at,
    e.state IN ('applied', 'ignored', 'discarded') AND e.waits_for IS NULL AS finished,
    e.payload_forgotten_at IS NULL
    AND (
        e.organization_id = $1
        OR (
            e.organization_id IS NULL
            AND EXISTS (SELECT FROM unnest($2::text []) AS n (needle) WHERE strpos(e.payload, n.needle) > 0)
        )
    ) AS has_data
FROM stripe_events AS e
WHERE $3::timestamptz IS NULL OR (e.received_at, e.id) < ($3, $4)
ORDER BY e.received_at DESC, e.id DESC
LIMIT $5;

-- name: erase_messages
-- Clear the bodies of finished messages of an organization; return how many.
WITH due AS (
    SELECT
        id,
        endpoint_id
    FROM outbound_messages
    WHERE organization_id = $1 AND state IN ('delivered', 'dead', 'discarded') AND payload <> '{}'
    ORDER BY id
    LIMIT $2
    FOR NO KEY UPDATE
),

cleared AS (
    UPDATE outbound_messages AS m
    SET payload = '{}'
    FROM due AS d
    WHERE m.id = d.id AND m.endpoint_id = d.endpoint_id
    RETURNING m.id
)

SELECT count(*) FROM cleared;

-- name: messages_left
-- The number of an organization's messages that are still to be sent.
SELECT count(*)
FROM outbound_messages
WHERE organization_id = $1 AND state = 'pending';

-- name: erase_attempts
-- Remove Stripe's texts from ended attempts of an organization; return how many.
WITH due AS (
    SELECT id
    FROM recharge_attempts
    WHERE organization_id = $1 AND settled_at IS NOT NULL AND detail IS NOT NULL
    ORDER BY id
    LIMIT $2
    FOR NO KEY UPDATE
),

cleaned AS (
    UPDATE recharge_attempts AS a
    SET detail = NULL
    FROM due AS d
    WHERE a.organization_id = $1 AND a.id = d.id
    RETURNING a.id
)

SELECT count(*) FROM cleaned;

-- name: erase_recharge_rule
-- Remove the texts and the card's fingerprint from an organization's rule of auto-recharge; return how many rows.
WITH cleaned AS (
    UPDATE auto_recharges
    SET
        detail = NULL,
        held_detail = NULL,
        declined_fingerprint = NULL
    WHERE
        organization_id = $1
        AND (detail IS NOT NULL OR held_detail IS NOT NULL OR declined_fingerprint IS NOT NULL)
    RETURNING organization_id
)

SELECT count(*) FROM cleaned;

-- name: erase_payment_methods
-- Remove the descriptions of an organization's payment methods, and detach them; return how many.
WITH due AS (
    SELECT id
    FROM payment_methods
    WHERE
        organization_id = $1
        AND (
            detached_at IS NULL
            OR coalesce(brand, last4, fingerprint, exp_month::text, exp_year::text) IS NOT NULL
        )
    ORDER BY id
    LIMIT $2
    FOR NO KEY UPDATE
),

cleaned AS (
    UPDATE payment_methods AS m
    SET
        brand = NULL,
        last4 = NULL,
        exp_month = NULL,
        exp_year = NULL,
        fingerprint = NULL,
        is_default = FALSE,
        detached_at = coalesce(m.detached_at, now())
    FROM due AS d
    WHERE m.id = d.id
    RETURNING m.id
)

SELECT count(*) FROM cleaned;

-- name: delete_api_sessions
-- Delete the browser sessions of an organization; return how many.
WITH deleted AS (
    DELETE FROM api_sessions
    WHERE organization_id = $1
    RETURNING id
)

SELECT count(*) FROM deleted;

-- name: delete_console_sessions
-- Delete the console's sessions that are bound to an organization; return how many.
WITH deleted AS (
    DELETE FROM console_sessions
    WHERE organization_id = $1
    RETURNING id
)

SELECT count(*) FROM deleted;

-- name: delete_console_links
-- Delete the console's sign-in links that are bound to an organization; return how many.
WITH deleted AS (
    DELETE FROM console_links
    WHERE organization_id = $1
    RETURNING token_sha256
)

SELECT count(*) FROM deleted;

-- name: delete_answers
-- Delete answered requests of an organization's keys, with their answers; return how many.
WITH due AS (
    SELECT key
    FROM idempotent_requests
    WHERE tenant_id = $1 AND answer IS NOT NULL
    ORDER BY key
    LIMIT $2
    FOR UPDATE
),

deleted AS (
    DELETE FROM idempotent_requests AS r
    USING due AS d
    WHERE r.tenant_id = $1 AND r.key = d.key
    RETURNING r.key
)

SELECT count(*) FROM deleted;

-- name: delete_budgets
-- Delete the budgets of users; return how many. Its account, which is closed, takes no debits that they would limit.
WITH deleted AS (
    DELETE FROM budgets
    WHERE organization_id = $1 AND subject_kind = 'user'
    RETURNING id
),

rest AS (
    UPDATE accounts AS a
    SET
        budgets = (
            SELECT count(*)
            FROM budgets AS b
            WHERE b.organization_id = $1 AND b.subject_kind <> 'user' AND b.removed_at IS NULL
        )
    WHERE a.organization_id = $1 AND EXISTS (SELECT FROM deleted)
)

SELECT count(*) FROM deleted;

-- name: delete_budget_counters
-- Delete counters of budgets of users that were deleted; return how many.
WITH due AS (
    SELECT
        c.budget_id,
        c.subject
    FROM budget_counters AS c
    LEFT JOIN budgets AS b ON c.organization_id = b.organization_id AND c.budget_id = b.id
    WHERE c.organization_id = $1 AND b.id IS NULL
    LIMIT $2
),

deleted AS (
    DELETE FROM budget_counters AS c
    USING due AS d
    WHERE c.organization_id = $1 AND c.budget_id = d.budget_id AND c.subject = d.subject
    RETURNING c.subject
)

SELECT count(*) FROM deleted;

-- name: can_update_audit
-- Whether this role may change the audit log: the owner may, the role of the processes may not.
SELECT has_table_privilege('audit_log', 'UPDATE');

-- name: audit_entries_left
-- The number of an organization's audit entries with personal fields ($2) that are not erased ($3).
SELECT count(*)
FROM audit_log AS l
WHERE
    l.organization_id = $1
    AND EXISTS (
        SELECT FROM jsonb_each_text(l.details) AS d (name, value)
        WHERE d.name = any($2::text []) AND d.value <> $3
    );

-- name: erase_audit_entries
-- Replace personal fields ($2) in the details of an organization's audit entries by a constant ($3); return how many.
WITH due AS (
    SELECT
        l.id,
        (
            SELECT jsonb_object_agg(d.name, $3::text)
            FROM jsonb_each_text(l.details) AS d (name, value)
            WHERE d.name = any($2::text []) AND d.value <> $3
        ) AS erased
    FROM audit_log AS l
    WHERE
        l.organization_id = $1
        AND EXISTS (
            SELECT FROM jsonb_each_text(l.details) AS d (name, value)
            WHERE d.name = any($2::text []) AND d.value <> $3
        )
    ORDER BY l.id
    LIMIT $4
),

cleaned AS (
    UPDATE audit_log AS l
    SET details = l.details || d.erased
    FROM due AS d
    WHERE l.id = d.id
    RETURNING l.id
)

SELECT count(*) FROM cleaned;
