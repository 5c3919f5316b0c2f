-- Posting for any mix of organizations in one round trip: the entry point.

-- Locks the accounts of these organizations, in the order of their ids, so that two batches never wait for
-- each other. Returns those that another transaction has: none without a limit of time, where it waits as long
-- as the session lets it. With a limit of 0 it waits for no account, else for all of them together so long. The
-- rest of the transaction then waits for no other row much longer either.
CREATE OR REPLACE FUNCTION ledger_lock(
    p_organizations uuid [],
    p_milliseconds_max integer
) RETURNS uuid [] LANGUAGE plpgsql AS $$
DECLARE
    v_organization_id uuid;
    v_locked uuid [] := '{}';
    v_busy uuid [] := '{}';
    v_end timestamptz := clock_timestamp() + p_milliseconds_max * interval '1 millisecond';
BEGIN
    IF p_milliseconds_max IS NULL THEN
        PERFORM FROM accounts AS a
        WHERE a.organization_id = any(p_organizations)
        ORDER BY a.organization_id
        FOR UPDATE;
        RETURN v_busy;
    END IF;

    IF p_milliseconds_max = 0 THEN
        PERFORM set_config('lock_timeout', '100', TRUE);
        SELECT array_agg(l.organization_id) INTO v_locked
        FROM (
            SELECT a.organization_id
            FROM accounts AS a
            WHERE a.organization_id = any(p_organizations)
            ORDER BY a.organization_id
            FOR UPDATE SKIP LOCKED
        ) AS l;
        IF cardinality(v_locked) = cardinality(p_organizations) THEN
            RETURN v_busy;
        END IF;
        -- An organization that does not exist is no one's.
        SELECT coalesce(array_agg(o.organization_id), '{}') INTO v_busy
        FROM (
            SELECT a.organization_id
            FROM accounts AS a
            WHERE a.organization_id = any(p_organizations)
            EXCEPT
            SELECT l.organization_id
            FROM unnest(v_locked) AS l (organization_id)
        ) AS o;
        RETURN v_busy;
    END IF;

    FOREACH v_organization_id IN ARRAY p_organizations
    LOOP
        BEGIN
            PERFORM set_config(
                'lock_timeout',
                greatest(ceil(extract(EPOCH FROM v_end - clock_timestamp()) * 1000), 1)::text,
                TRUE
            );
            PERFORM FROM accounts AS a
            WHERE a.organization_id = v_organization_id
            FOR UPDATE;
        EXCEPTION WHEN lock_not_available THEN
            v_busy := array_append(v_busy, v_organization_id);
        END;
    END LOOP;
    PERFORM set_config('lock_timeout', greatest(p_milliseconds_max, 100)::text, TRUE);
    RETURN v_busy;
END
$$;

-- The organizations whose postings would keep a shared batch: they may burn across so many grants, or so many
-- grants or holds have expired. It looks at no more of them than that. The accounts are locked already.
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
    SELECT array_agg(a.organization_id) INTO v_heavy
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
    INNER JOIN accounts AS a ON s.organization_id = a.organization_id
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS grants,
            sum(g.remaining) AS remaining
        FROM (
            SELECT g.remaining
            FROM credit_grants AS g
            WHERE g.organization_id = a.organization_id AND NOT g.spent
            ORDER BY g.priority, g.expires_at, (NOT g.promotional), g.seq
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

-- Posts transfers of any mix of organizations in one round trip; `place` says which posting a result is
-- of, counted from 1. All accounts are locked first. A posting under an `Idempotency-Key` that another request
-- has is a `conflict`.
--
-- For a batch that many share, `p_lock_milliseconds_max` bounds how long it waits for the accounts that other
-- transactions have locked, and `p_grants_max` how many grants an organization may take it through. What is
-- beyond is not posted, and its result is `busy` or `heavy`: post it apart. The organizations that are left do
-- not wait for it.
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
    available numeric
) LANGUAGE plpgsql AS $$
DECLARE
    v_postings ledger_posting [];
    v_places integer [];
    v_owners uuid [];
    v_keyed boolean;
    v_busy uuid [];
    v_heavy uuid [];
    v_claimed bigint [];
    v_plain uuid [];
    v_now timestamptz;
    v_posted bigint;
    v_organization record;
BEGIN
    SELECT
        array_agg(r::ledger_posting),
        bool_or(starts_with(r.key, 'idempotency-key:'))
    INTO v_postings, v_keyed
    FROM jsonb_populate_recordset(NULL::ledger_posting, p_postings) AS r;
    v_owners := array(
        SELECT DISTINCT p.organization_id
        FROM unnest(v_postings) AS p
        ORDER BY p.organization_id
    );

    v_busy := ledger_lock(v_owners, p_lock_milliseconds_max);
    IF v_keyed THEN
        v_claimed := claimed_places(p_postings);
    END IF;
    v_now := clock_timestamp();
    v_plain := ledger_plain_organizations(v_postings, v_now);
    IF p_grants_max IS NOT NULL AND cardinality(v_plain) IS DISTINCT FROM cardinality(v_owners) THEN
        v_heavy := ledger_heavy_organizations(v_postings, v_plain, v_now, p_grants_max);
    END IF;

    IF cardinality(v_busy) > 0 OR v_heavy IS NOT NULL OR v_claimed IS NOT NULL THEN
        RETURN QUERY
        SELECT
            p.ordinality::integer,
            CASE
                WHEN p.organization_id = any(v_busy) THEN 'busy'
                WHEN p.organization_id = any(v_heavy) THEN 'heavy'
                ELSE 'conflict'
            END,
            NULL::uuid,
            NULL::bigint,
            p.amount,
            NULL::numeric,
            NULL::timestamptz,
            NULL::numeric,
            NULL::numeric
        FROM unnest(v_postings) WITH ORDINALITY AS p
        WHERE
            p.organization_id = any(v_busy)
            OR p.organization_id = any(v_heavy)
            OR p.ordinality = any(v_claimed);

        SELECT
            array_agg(p.posting ORDER BY p.place),
            array_agg(p.place ORDER BY p.place)
        INTO v_postings, v_places
        FROM (
            SELECT
                r::ledger_posting AS posting,
                (row_number() OVER ())::integer AS place
            FROM unnest(v_postings) AS r
        ) AS p
        WHERE
            (p.posting).organization_id <> all(v_busy)
            AND ((p.posting).organization_id = any(v_heavy)) IS NOT TRUE
            AND (p.place = any(v_claimed)) IS NOT TRUE;
        IF v_postings IS NULL THEN
            RETURN;
        END IF;
        SELECT array_agg(plain.organization_id) INTO v_plain
        FROM unnest(v_plain) AS plain (organization_id)
        WHERE plain.organization_id <> all(v_busy);
    END IF;

    IF cardinality(v_plain) > 0 THEN
        BEGIN
            RETURN QUERY
            SELECT
                coalesce(v_places[r.place], r.place),
                r.status,
                r.id,
                r.seq,
                r.amount,
                r.balance_after,
                r.created_at,
                NULL::numeric,
                NULL::numeric
            FROM ledger_post_plain(v_postings, v_plain, v_now) AS r;
            GET DIAGNOSTICS v_posted = ROW_COUNT;
            IF v_posted = cardinality(v_postings) THEN
                RETURN;
            END IF;
        EXCEPTION WHEN unique_violation THEN
            v_plain := '{}';  -- a key is taken: replays and conflicts are told apart below
        END;
    END IF;

    FOR v_organization IN
        SELECT
            (p.posting).organization_id,
            array_agg(p.posting ORDER BY p.place) AS postings,
            array_agg(coalesce(v_places[p.place], p.place) ORDER BY p.place) AS places
        FROM (
            SELECT
                r::ledger_posting AS posting,
                (row_number() OVER ())::integer AS place
            FROM unnest(v_postings) AS r
        ) AS p
        LEFT JOIN unnest(v_plain) AS plain (organization_id)
            ON (p.posting).organization_id = plain.organization_id
        WHERE plain.organization_id IS NULL
        GROUP BY (p.posting).organization_id
        ORDER BY (p.posting).organization_id
    LOOP
        RETURN QUERY
        SELECT
            v_organization.places[r.ordinality],
            r.status,
            r.id,
            r.seq,
            r.amount,
            r.balance_after,
            r.created_at,
            r.held,
            r.available
        FROM ledger_post_organization(
            v_organization.organization_id, v_organization.postings
        ) WITH ORDINALITY AS r;
    END LOOP;
END
$$;
