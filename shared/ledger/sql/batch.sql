-- Posting for any mix of organizations in one round trip: the entry point.

DROP FUNCTION IF EXISTS ledger_lock_batch(jsonb, integer, integer);

-- The organizations whose postings would delay a shared batch: they may burn from more grants than the limit, or
-- more grants or holds have expired. It reads no more than the limit. The accounts are locked already.
CREATE OR REPLACE FUNCTION ledger_heavy_organizations(
    p_postings ledger_posting [],
    p_plain uuid [],
    p_now timestamptz,
    p_grants_max integer
) RETURNS uuid [] LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    v_heavy uuid [];
BEGIN
    SELECT array_agg(s.organization_id) INTO v_heavy
    FROM (
        SELECT
            p.organization_id,
            sum(greatest(-p.amount, 0)) AS burn
        FROM unnest(p_postings) AS p
        LEFT JOIN unnest(p_plain) AS plain (organization_id)
            ON p.organization_id = plain.organization_id
        WHERE plain.organization_id IS NULL
        GROUP BY p.organization_id
    ) AS s
    CROSS JOIN LATERAL (
        SELECT f.* FROM accounts AS f WHERE f.organization_id = s.organization_id OFFSET 0
    ) AS a
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS grants,
            sum(g.remaining) AS remaining
        FROM (
            SELECT g.remaining
            FROM ledger_open_grants(a.organization_id) AS g
            LIMIT p_grants_max
        ) AS g
    ) AS first
    CROSS JOIN LATERAL (
        SELECT count(*) AS grants
        FROM (
            SELECT
            FROM credit_grants AS g
            WHERE
                g.organization_id = a.organization_id
                AND NOT g.spent
                AND g.expires_at <= p_now
                AND a.next_due_at <= p_now
            LIMIT p_grants_max
        ) AS g
    ) AS expired
    CROSS JOIN LATERAL (
        SELECT count(*) AS holds
        FROM (
            SELECT
            FROM holds AS h
            WHERE
                h.organization_id = a.organization_id
                AND h.status = 'active'
                AND h.expires_at <= p_now
                AND a.next_due_at <= p_now
            LIMIT p_grants_max
        ) AS h
    ) AS lapsed
    WHERE
        (first.grants = p_grants_max AND first.remaining < s.burn)
        OR expired.grants = p_grants_max
        OR lapsed.holds = p_grants_max;
    RETURN v_heavy;
END
$$;

-- Returns for each posting why it is deferred (its organization is `busy` or `heavy`), or `conflict` where its key
-- belongs to another request. NULL: it is posted now.
CREATE OR REPLACE FUNCTION ledger_deferrals(
    p_postings ledger_posting [],
    p_busy uuid [],
    p_heavy uuid [],
    p_claimed bigint []
) RETURNS text [] LANGUAGE sql STABLE AS $$
    SELECT
        array_agg(
            CASE
                WHEN p.organization_id = any(p_busy) THEN 'busy'
                WHEN p.organization_id = any(p_heavy) THEN 'heavy'
                WHEN p.ordinality = any(p_claimed) THEN 'conflict'
            END
            ORDER BY p.ordinality
        )
    FROM unnest(p_postings) WITH ORDINALITY AS p
$$;

-- The results of the postings that are deferred.
CREATE OR REPLACE FUNCTION ledger_deferred(
    p_postings ledger_posting [],
    p_deferrals text []
) RETURNS TABLE (
    place integer,
    status text,
    id uuid,
    seq bigint,
    amount numeric,
    balance_after numeric,
    created_at timestamptz,
    held numeric,
    available numeric,
    budget jsonb
) LANGUAGE sql STABLE AS $$
    SELECT
        p.ordinality::integer,
        p_deferrals[p.ordinality],
        NULL::uuid,
        NULL::bigint,
        p.amount,
        NULL::numeric,
        NULL::timestamptz,
        NULL::numeric,
        NULL::numeric,
        NULL::jsonb
    FROM unnest(p_postings) WITH ORDINALITY AS p
    WHERE p_deferrals[p.ordinality] IS NOT NULL
$$;

-- Posts for each organization that is not in the plain batch; see ledger_post_organization.
CREATE OR REPLACE FUNCTION ledger_post_each(
    p_postings ledger_posting [],
    p_places integer [],
    p_plain uuid []
) RETURNS TABLE (
    place integer,
    status text,
    id uuid,
    seq bigint,
    amount numeric,
    balance_after numeric,
    created_at timestamptz,
    held numeric,
    available numeric,
    budget jsonb
) LANGUAGE plpgsql AS $$
DECLARE
    v_group record;
BEGIN
    FOR v_group IN
        SELECT
            (p.posting).organization_id,
            array_agg(p.posting ORDER BY p.place) AS postings,
            array_agg(coalesce(p_places[p.place], p.place) ORDER BY p.place) AS places
        FROM ledger_places(p_postings) AS p
        LEFT JOIN unnest(p_plain) AS plain (organization_id)
            ON (p.posting).organization_id = plain.organization_id
        WHERE plain.organization_id IS NULL
        GROUP BY (p.posting).organization_id
        ORDER BY (p.posting).organization_id
    LOOP
        RETURN QUERY
        SELECT
            v_group.places[r.ordinality],
            r.status,
            r.id,
            r.seq,
            r.amount,
            r.balance_after,
            r.created_at,
            r.held,
            r.available,
            r.budget
        FROM ledger_post_organization(v_group.organization_id, v_group.postings) WITH ORDINALITY AS r;
    END LOOP;
END
$$;

-- Locks the accounts of a batch and divides it: `deferrals` as above; `postings` are the others, and `places` their
-- positions in the whole batch, where some are deferred; `plain`, the organizations with plain debits only; whether one
-- of these has budgets.
CREATE OR REPLACE FUNCTION ledger_lock_batch(
    p_postings jsonb,
    p_lock_milliseconds_max integer,
    p_grants_max integer,
    OUT batch ledger_posting [],
    OUT postings ledger_posting [],
    OUT places integer [],
    OUT plain uuid [],
    OUT budgeted boolean,
    OUT deferrals text [],
    OUT now timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    v_organizations uuid [];
    v_keyed boolean;
    v_busy uuid [];
    v_heavy uuid [];
    v_claimed bigint [];
BEGIN
    SELECT
        array_agg(r::ledger_posting),
        bool_or(starts_with(r.key, 'idempotency-key:'))
    INTO batch, v_keyed
    FROM jsonb_populate_recordset(NULL::ledger_posting, p_postings) AS r;
    v_organizations := array(
        SELECT DISTINCT p.organization_id
        FROM unnest(batch) AS p
        ORDER BY p.organization_id
    );
    v_busy := ledger_lock_accounts(v_organizations, p_lock_milliseconds_max);
    IF v_keyed THEN
        v_claimed := claimed_places(p_postings);
    END IF;
    now := clock_timestamp();
    SELECT
        o.plain,
        o.budgeted
    INTO plain, budgeted
    FROM ledger_plain_organizations(batch, now) AS o;
    IF p_grants_max IS NOT NULL AND cardinality(plain) IS DISTINCT FROM cardinality(v_organizations) THEN
        v_heavy := ledger_heavy_organizations(batch, plain, now, p_grants_max);
    END IF;
    IF cardinality(v_busy) = 0 AND v_heavy IS NULL AND v_claimed IS NULL THEN
        postings := batch;
        RETURN;
    END IF;
    deferrals := ledger_deferrals(batch, v_busy, v_heavy, v_claimed);
    plain := array(SELECT unnest(plain) EXCEPT SELECT unnest(v_busy));
    SELECT
        array_agg(p.posting ORDER BY p.place),
        array_agg(p.place ORDER BY p.place)
    INTO postings, places
    FROM ledger_places(batch) AS p
    WHERE deferrals[p.place] IS NULL;
END
$$;

-- Posts transfers of any mix of organizations in one round trip; `place` is the position of a result's
-- posting, counted from 1. All accounts are locked first. A posting whose `Idempotency-Key` belongs to another
-- request is a `conflict`.
--
-- For a batch that many callers share, `p_lock_milliseconds_max` bounds its wait for locked accounts, and
-- `p_grants_max` the grants that it reads of an organization. Postings beyond the limits are not posted, and their
-- result is `busy` or `heavy`: post them separately. The other organizations do not wait for them.
--
-- PostgreSQL plans the check of a foreign key once in a session, under the settings of the function that inserts first: as
-- a scan of all accounts, if there were few when the statistics were made.
CREATE OR REPLACE FUNCTION ledger_post(
    p_postings jsonb,
    p_lock_milliseconds_max integer DEFAULT NULL,
    p_grants_max integer DEFAULT NULL
) RETURNS TABLE (
    place integer,
    status text,
    id uuid,
    seq bigint,
    amount numeric,
    balance_after numeric,
    created_at timestamptz,
    held numeric,
    available numeric,
    budget jsonb
) LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    v_batch record;
    v_posted bigint := 0;
    v_only_plain boolean := TRUE;  -- so far
BEGIN
    -- The locks are taken in the subtransaction that writes. Those of the transaction around it would need a MultiXact
    -- for each account, which each look-up of the account then reads.
    BEGIN
        v_batch := ledger_lock_batch(p_postings, p_lock_milliseconds_max, p_grants_max);
        IF cardinality(v_batch.plain) > 0 THEN
            RETURN QUERY
            SELECT
                coalesce(v_batch.places[r.place], r.place),
                r.status,
                r.id,
                r.seq,
                r.amount,
                r.balance_after,
                r.created_at,
                NULL::numeric,
                NULL::numeric,
                NULL::jsonb
            FROM ledger_post_plain(v_batch.postings, v_batch.plain, v_batch.now) AS r;
            GET DIAGNOSTICS v_posted = ROW_COUNT;
            IF v_batch.budgeted THEN
                PERFORM ledger_count_plain(v_batch.postings, v_batch.plain);
            END IF;
        END IF;
        v_only_plain := FALSE;
        IF v_posted < cardinality(v_batch.postings) THEN
            RETURN QUERY
            SELECT r.* FROM ledger_post_each(v_batch.postings, v_batch.places, v_batch.plain) AS r;
        END IF;
    EXCEPTION WHEN unique_violation THEN
        IF NOT v_only_plain THEN
            RAISE;
        END IF;
        -- A key is taken: ledger_post_organization decides whether by the same request. The locks went with the rest.
        v_batch := ledger_lock_batch(p_postings, p_lock_milliseconds_max, p_grants_max);
        RETURN QUERY SELECT r.* FROM ledger_post_each(v_batch.postings, v_batch.places, '{}') AS r;
    END;
    IF v_batch.deferrals IS NOT NULL THEN
        RETURN QUERY SELECT d.* FROM ledger_deferred(v_batch.batch, v_batch.deferrals) AS d;
    END IF;
END
$$;

-- The shards of a cluster, each with the hashes of its organizations and its node. On one PostgreSQL there are none; on
-- a cluster, another function stands in its place.
CREATE OR REPLACE FUNCTION ledger_shards() RETURNS TABLE (
    hash_min integer,
    hash_max integer,
    node text
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN;
END
$$;
