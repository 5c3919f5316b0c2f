-- Postings on a cluster: one remote statement for an organization. Citus delegates a call that is the whole statement,
-- in FROM and executed as a text, so that ledger_post executes one for each organization, and takes no plain batch over
-- many.

-- Locks an account within a time (NULL: as long as the session allows); FALSE: another transaction has it. The caller
-- looks up keys of requests under this lock.
CREATE OR REPLACE FUNCTION ledger_lock_on_node(
    p_organization_id uuid,
    p_lock_milliseconds_max integer
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF p_lock_milliseconds_max IS NOT NULL THEN
        PERFORM set_config('lock_timeout', greatest(p_lock_milliseconds_max, 1)::text, TRUE);
    END IF;
    PERFORM FROM accounts AS a
    WHERE a.organization_id = p_organization_id
    FOR UPDATE;
    IF p_lock_milliseconds_max IS NOT NULL THEN
        PERFORM set_config('lock_timeout', greatest(p_lock_milliseconds_max, 100)::text, TRUE);
    END IF;
    RETURN TRUE;
EXCEPTION WHEN lock_not_available THEN
    RETURN FALSE;
END
$$;

-- Whether the postings of an organization are long work: they may burn from more grants than a number, or more grants
-- or holds have expired. See ledger_heavy_organizations.
CREATE OR REPLACE FUNCTION ledger_is_heavy(
    p_organization_id uuid,
    p_burn numeric,
    p_grants_max integer
) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_grants bigint;
    v_remaining numeric;
    v_expired bigint;
    v_lapsed bigint;
BEGIN
    SELECT
        count(*),
        sum(f.remaining)
    INTO v_grants, v_remaining
    FROM (
        SELECT g.remaining
        FROM credit_grants AS g
        WHERE g.organization_id = p_organization_id AND NOT g.spent
        ORDER BY g.priority, g.expires_at, (NOT g.promotional), g.seq
        LIMIT p_grants_max
    ) AS f;
    SELECT count(*) INTO v_expired
    FROM (
        SELECT
        FROM credit_grants AS g
        WHERE g.organization_id = p_organization_id AND NOT g.spent AND g.expires_at <= v_now
        LIMIT p_grants_max
    ) AS e;
    SELECT count(*) INTO v_lapsed
    FROM (
        SELECT
        FROM holds AS h
        WHERE h.organization_id = p_organization_id AND h.status = 'active' AND h.expires_at <= v_now
        LIMIT p_grants_max
    ) AS l;
    RETURN (v_grants = p_grants_max AND v_remaining < p_burn) OR v_expired = p_grants_max OR v_lapsed = p_grants_max;
END
$$;

-- Posts for one organization on its node: the results of ledger_post_organization, and with the last row, which has no
-- status, what they announced. `busy` and `heavy` are those of ledger_post.
CREATE OR REPLACE FUNCTION ledger_post_on_node(
    p_organization_id uuid,
    p_postings jsonb,
    p_lock_milliseconds_max integer,
    p_grants_max integer,
    p_expirations_max integer
) RETURNS TABLE (
    status text,
    id uuid,
    seq bigint,
    amount numeric,
    balance_after numeric,
    created_at timestamptz,
    held numeric,
    available numeric,
    budget jsonb,
    effects jsonb
) LANGUAGE plpgsql AS $$
DECLARE
    v_postings ledger_posting [] := array(
        SELECT r::ledger_posting
        FROM jsonb_populate_recordset(NULL::ledger_posting, p_postings) AS r
    );
    v_burn numeric := (SELECT sum(greatest(-p.amount, 0)) FROM unnest(v_postings) AS p);
BEGIN
    IF NOT ledger_lock_on_node(p_organization_id, p_lock_milliseconds_max) THEN
        status := 'busy';
        RETURN NEXT;
        RETURN;
    END IF;
    IF p_grants_max IS NOT NULL AND ledger_is_heavy(p_organization_id, v_burn, p_grants_max) THEN
        status := 'heavy';
        RETURN NEXT;
        RETURN;
    END IF;
    PERFORM ledger_begin_on_node();
    RETURN QUERY
    SELECT
        r.*,
        NULL::jsonb
    FROM ledger_post_organization(p_organization_id, v_postings, p_expirations_max) AS r;
    status := NULL;
    effects := ledger_end_on_node();
    RETURN NEXT;
END
$$;

-- The results of the postings of an organization that are not posted: all of them where they are deferred, else those
-- whose key another request has.
CREATE OR REPLACE FUNCTION ledger_not_posted(
    p_postings jsonb,
    p_claimed bigint [],
    p_deferred text
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
) LANGUAGE sql IMMUTABLE AS $$
    SELECT
        p.ordinality::integer,
        coalesce(p_deferred, 'conflict'),
        NULL::uuid,
        NULL::bigint,
        (p.value ->> 'amount')::numeric,
        NULL::numeric,
        NULL::timestamptz,
        NULL::numeric,
        NULL::numeric,
        NULL::jsonb
    FROM jsonb_array_elements(p_postings) WITH ORDINALITY AS p
    WHERE p_deferred IS NOT NULL OR p.ordinality = any(p_claimed)
$$;

-- Posts for one organization from the coordinator, and does there what the postings announced. `p_keyed`: some have the
-- key of a request, which is looked up under the account's lock.
CREATE OR REPLACE FUNCTION ledger_delegate(
    p_organization_id uuid,
    p_postings jsonb,
    p_keyed boolean,
    p_lock_milliseconds_max integer,
    p_grants_max integer,
    p_expirations_max integer
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
    v_locked boolean := TRUE;
    v_claimed bigint [] := '{}';
    v_deferred text;
    v_row record;
    v_postings jsonb;
    v_places integer [];
    v_results integer := 0;
BEGIN
    IF p_keyed THEN
        EXECUTE 'SELECT * FROM ledger_lock_on_node($1, $2)' INTO v_locked
        USING p_organization_id, p_lock_milliseconds_max;
        v_claimed := coalesce(claimed_places(p_postings), '{}');
    END IF;
    SELECT
        coalesce(jsonb_agg(p.value ORDER BY p.ordinality), '[]'),
        array_agg(p.ordinality ORDER BY p.ordinality)
    INTO v_postings, v_places
    FROM jsonb_array_elements(p_postings) WITH ORDINALITY AS p
    WHERE p.ordinality <> all(v_claimed);
    IF v_locked THEN
        FOR v_row IN
            EXECUTE 'SELECT * FROM ledger_post_on_node($1, $2, $3, $4, $5)'
            USING p_organization_id, v_postings, p_lock_milliseconds_max, p_grants_max, p_expirations_max
        LOOP
            IF v_row.effects IS NOT NULL THEN
                PERFORM ledger_take_effect(v_row.effects);
            ELSIF v_row.status IN ('busy', 'heavy') THEN
                v_deferred := v_row.status;
            ELSE
                v_results := v_results + 1;
                RETURN QUERY
                SELECT
                    v_places[v_results],
                    v_row.status,
                    v_row.id,
                    v_row.seq,
                    v_row.amount,
                    v_row.balance_after,
                    v_row.created_at,
                    v_row.held,
                    v_row.available,
                    v_row.budget;
            END IF;
        END LOOP;
    END IF;
    RETURN QUERY
    SELECT d.*
    FROM ledger_not_posted(p_postings, v_claimed, CASE WHEN v_locked THEN v_deferred ELSE 'busy' END) AS d;
END
$$;

-- Posts expirations of an organization on its node; see ledger_post_expirations.
CREATE OR REPLACE FUNCTION ledger_post_expirations(
    p_organization_id uuid,
    p_expirations_max integer
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_row record;
BEGIN
    FOR v_row IN
        EXECUTE 'SELECT * FROM ledger_post_on_node($1, $2, $3, $4, $5)'
        USING p_organization_id, '[]'::jsonb, 1, NULL::integer, p_expirations_max
    LOOP
        IF v_row.status = 'busy' THEN
            RETURN FALSE;
        END IF;
        PERFORM ledger_take_effect(v_row.effects);
    END LOOP;
    RETURN TRUE;
END
$$;

-- Posts transfers of any mix of organizations, one after the other in the order of their ids: see the function that it
-- replaces. The nodes of the organizations commit in two phases, so that its callers keep to organizations of one node.
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
) LANGUAGE plpgsql AS $$
DECLARE
    v_group record;
BEGIN
    FOR v_group IN
        SELECT
            (p.value ->> 'organization_id')::uuid AS organization_id,
            jsonb_agg(p.value ORDER BY p.ordinality) AS postings,
            array_agg(p.ordinality::integer ORDER BY p.ordinality) AS places,
            bool_or(starts_with(p.value ->> 'key', 'idempotency-key:')) AS keyed
        FROM jsonb_array_elements(p_postings) WITH ORDINALITY AS p
        GROUP BY 1
        ORDER BY 1
    LOOP
        RETURN QUERY
        SELECT
            v_group.places[r.place],
            r.status,
            r.id,
            r.seq,
            r.amount,
            r.balance_after,
            r.created_at,
            r.held,
            r.available,
            r.budget
        FROM ledger_delegate(
            v_group.organization_id, v_group.postings, v_group.keyed, p_lock_milliseconds_max, p_grants_max, 20
        ) AS r;
    END LOOP;
END
$$;
