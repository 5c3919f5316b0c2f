-- Idempotency keys: one key of one organization is one request, whichever operation it was sent to.
--
-- A request stores its key in `idempotent_requests`; a posting without a key of its own stores it in the ledger, as
-- `idempotency-key:…`. Each checks the other table under the account's lock, which every posting takes first: of two
-- concurrent requests, the second sees the first.

-- Claims a key for a request: a new key, or one whose last attempt ended without an answer. `claimed` is the id under
-- which to execute the request: `p_id`, where the key was new. Where it is NULL, `digest`, `status` and `answer` are
-- those of the request that used the key; a posting has none of the three.
CREATE OR REPLACE FUNCTION claim_request(
    p_tenant_id uuid,
    p_key text,
    p_digest bytea,
    p_id uuid,
    p_lease interval,
    p_token uuid
) RETURNS TABLE (
    claimed uuid,
    digest bytea,
    status smallint,
    answer bytea
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM accounts AS a
    WHERE a.organization_id = p_tenant_id
    FOR SHARE;

    IF EXISTS (
        SELECT
        FROM credit_transactions AS t
        WHERE t.organization_id = p_tenant_id AND t.idempotency_key = 'idempotency-key:' || p_key
    ) THEN
        RETURN NEXT;
        RETURN;
    END IF;

    RETURN QUERY
    INSERT INTO idempotent_requests AS r (tenant_id, key, digest, id, locked_until, token)
    VALUES (p_tenant_id, p_key, p_digest, p_id, now() + p_lease, p_token)
    ON CONFLICT (tenant_id, key) DO UPDATE
        SET locked_until = excluded.locked_until, token = excluded.token
        WHERE r.answer IS NULL AND r.locked_until <= now() AND r.digest = excluded.digest
    RETURNING
        r.id,
        r.digest,
        r.status,
        r.answer;

    IF NOT FOUND THEN
        RETURN QUERY
        SELECT
            NULL::uuid,
            r.digest,
            r.status,
            r.answer
        FROM idempotent_requests AS r
        WHERE r.tenant_id = p_tenant_id AND r.key = p_key;
    END IF;
END
$$;

-- The positions, counted from 1, of the postings whose key another request has. The accounts are locked already.
--
-- Its plan is made once and goes by index, since it may be made while the table is still empty.
CREATE OR REPLACE FUNCTION claimed_places(p_postings jsonb) RETURNS bigint [] LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    v_places bigint [];
BEGIN
    SELECT array_agg(p.place) INTO v_places
    FROM
        ROWS FROM (
            jsonb_to_recordset(p_postings) AS (organization_id uuid, key text)
        ) WITH ORDINALITY AS p (organization_id, key, place)
    WHERE
        starts_with(p.key, 'idempotency-key:')
        AND EXISTS (
            SELECT
            FROM idempotent_requests AS r
            WHERE
                r.tenant_id = p.organization_id
                AND r.key = substring(p.key FROM length('idempotency-key:') + 1)
        );
    RETURN v_places;
END
$$;
