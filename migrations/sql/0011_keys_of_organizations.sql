-- An Idempotency-Key belongs to the organization that its request is about; so far, one that an API key of all
-- organizations sent belonged to none. The keys of charges move, so that a retry across the deploy finds its first
-- try. The others stay where they are until they are a week old.
UPDATE idempotent_requests AS r
SET tenant_id = c.organization_id
FROM (
    SELECT
        id,
        organization_id
    FROM recharge_attempts
    UNION ALL
    SELECT
        id,
        organization_id
    FROM purchases
) AS c
WHERE
    r.tenant_id = '00000000-0000-0000-0000-000000000000'
    AND r.id = c.id
    AND NOT EXISTS (
        SELECT FROM idempotent_requests AS other
        WHERE other.tenant_id = c.organization_id AND other.key = r.key
    );
