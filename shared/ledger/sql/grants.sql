-- Grants: opened by credits, burned by debits in a fixed order, reduced by refunds and disputes.

DROP FUNCTION IF EXISTS ledger_open_grant(accounts, credit_transactions, smallint, boolean, timestamptz);

-- The open grants of an organization in burn order, including expired ones whose expiration is not posted yet.
-- PostgreSQL inlines it: a caller that needs the first ones reads no others.
CREATE OR REPLACE FUNCTION ledger_open_grants(
    p_organization_id uuid
) RETURNS SETOF credit_grants LANGUAGE sql STABLE AS $$
    SELECT g.*
    FROM credit_grants AS g
    WHERE g.organization_id = p_organization_id AND NOT g.spent
    ORDER BY g.priority, g.expires_at, (NOT g.promotional), g.seq
$$;

-- A cursor over the open grants of an organization that expire after a moment or never, in burn order: lower priority
-- number, soonest expiry, promotional before paid, oldest. Priority by priority, so that the index skips the expired
-- ones that are not posted yet. Its reader reads no more of them than it takes.
CREATE OR REPLACE FUNCTION ledger_burn_cursor(
    p_organization_id uuid,
    p_expiring_after timestamptz
) RETURNS refcursor LANGUAGE plpgsql AS $$
DECLARE
    v_cursor refcursor;
BEGIN
    OPEN v_cursor NO SCROLL FOR
        WITH RECURSIVE priorities AS (
            SELECT (
                SELECT g.priority
                FROM credit_grants AS g
                WHERE g.organization_id = p_organization_id AND NOT g.spent
                ORDER BY g.priority
                LIMIT 1
            ) AS priority
            UNION ALL
            SELECT (
                SELECT g.priority
                FROM credit_grants AS g
                WHERE
                    g.organization_id = p_organization_id
                    AND NOT g.spent
                    AND g.priority > p.priority
                ORDER BY g.priority
                LIMIT 1
            )
            FROM priorities AS p
            WHERE p.priority IS NOT NULL
        )

        SELECT
            o.id,
            o.remaining
        FROM priorities AS p
        CROSS JOIN LATERAL (
            (
                SELECT
                    g.id,
                    g.remaining
                FROM credit_grants AS g
                WHERE
                    g.organization_id = p_organization_id
                    AND NOT g.spent
                    AND g.priority = p.priority
                    AND g.expires_at > p_expiring_after
                ORDER BY g.expires_at, (NOT g.promotional), g.seq
            )
            UNION ALL
            (
                SELECT
                    g.id,
                    g.remaining
                FROM credit_grants AS g
                WHERE
                    g.organization_id = p_organization_id
                    AND NOT g.spent
                    AND g.priority = p.priority
                    AND g.expires_at IS NULL
                ORDER BY g.expires_at, (NOT g.promotional), g.seq
            )
        ) AS o;
    RETURN v_cursor;
END
$$;

-- Burns `p_amount`, the credits consumed last, from the grants in their order; returns the account with the grant of
-- its open segment. What no grant covers is debt: a range of consumption without a segment.
--
-- The grants are read in one pass that stops once the amount is covered; then all are written by their keys, and
-- all segments in one statement. No plan scans or sorts, whatever the statistics say.
CREATE OR REPLACE FUNCTION ledger_burn(
    p_account accounts,
    p_amount numeric
) RETURNS accounts LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off AS $$
DECLARE
    v_from numeric := p_account.consumed - p_amount;
    v_left numeric := p_amount;
    v_taken numeric;
    v_cursor refcursor := ledger_burn_cursor(p_account.organization_id, p_account.expired_through);
    v_grant record;
    v_grants uuid [] := '{}';
    v_lowers numeric [] := '{}';
    v_uppers numeric [] := '{}';
BEGIN
    LOOP
        FETCH v_cursor INTO v_grant;
        EXIT WHEN NOT FOUND;
        v_taken := least(v_left, v_grant.remaining);
        v_grants := array_append(v_grants, v_grant.id);
        v_lowers := array_append(v_lowers, p_account.consumed - v_left);
        v_left := v_left - v_taken;
        v_uppers := array_append(v_uppers, p_account.consumed - v_left);
        EXIT WHEN v_left = 0;
    END LOOP;
    CLOSE v_cursor;

    -- All but the last are used up. No joins: one could be planned the wrong way round, as a scan for each.
    UPDATE credit_grants AS g
    SET remaining = 0
    WHERE
        g.organization_id = p_account.organization_id
        AND g.id = any(v_grants[:cardinality(v_grants) - 1]);
    UPDATE credit_grants AS g
    SET remaining = g.remaining - v_taken
    WHERE
        g.organization_id = p_account.organization_id
        AND g.id = v_grants[cardinality(v_grants)];

    -- The last segment stays open while its grant burns.
    IF p_account.burning_grant_id IS NOT DISTINCT FROM v_grants[1] THEN
        v_from := v_uppers[1];
        v_grants := v_grants[2:];
        v_lowers := v_lowers[2:];
        v_uppers := v_uppers[2:];
    END IF;
    IF cardinality(v_grants) > 0 OR v_left > 0 THEN
        PERFORM ledger_close_segment(p_account.organization_id, v_from);
        p_account.burning_grant_id := NULL;
    END IF;
    IF cardinality(v_grants) > 0 THEN
        IF v_left = 0 THEN
            v_uppers[cardinality(v_grants)] := NULL;
            p_account.burning_grant_id := v_grants[cardinality(v_grants)];
        END IF;
        INSERT INTO burn_segments (organization_id, lower, upper, grant_id)
        SELECT
            p_account.organization_id,
            s.lower,
            s.upper,
            s.grant_id
        FROM unnest(v_lowers, v_uppers, v_grants) AS s (lower, upper, grant_id);
    END IF;
    RETURN p_account;
END
$$;

-- Closes the open burn segment, if there is one. It is the last one of its organization.
CREATE OR REPLACE FUNCTION ledger_close_segment(
    p_organization_id uuid,
    p_upper numeric
) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off AS $$
DECLARE
    v_lower numeric;
BEGIN
    SELECT s.lower INTO v_lower
    FROM burn_segments AS s
    WHERE s.organization_id = p_organization_id
    ORDER BY s.lower DESC
    LIMIT 1;
    UPDATE burn_segments AS s
    SET upper = p_upper
    WHERE
        s.organization_id = p_organization_id
        AND s.lower = v_lower
        AND s.upper IS NULL;
END
$$;

-- When a new grant expires. One that would have expired already expires with the next posting. PostgreSQL inlines it.
CREATE OR REPLACE FUNCTION ledger_grant_expiry(
    p_account accounts,
    p_expires_at timestamptz
) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN p_expires_at <= p_account.expired_through
            THEN p_account.expired_through + interval '1 microsecond'
        ELSE p_expires_at
    END
$$;

-- Opens the grant of a credit. It pays debt first: the range of consumption without a grant is covered by it.
CREATE OR REPLACE FUNCTION ledger_open_grant(
    p_account accounts,
    p_row credit_transactions,
    p_posting ledger_posting
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_priority smallint := coalesce(p_posting.priority, 50);
    v_promotional boolean := coalesce(p_posting.promotional, FALSE);
    v_debt numeric := greatest(-p_account.balance, 0);
    v_covered numeric := least(v_debt, p_row.amount);
BEGIN
    INSERT INTO credit_grants (
        organization_id,
        id,
        transaction_id,
        seq,
        original,
        remaining,
        priority,
        promotional,
        expires_at,
        payment_intent_id,
        created_at,
        terms_hash
    ) VALUES (
        p_account.organization_id,
        p_row.grant_id,
        p_row.id,
        p_row.seq,
        p_row.amount,
        p_row.amount - v_covered,
        v_priority,
        v_promotional,
        ledger_grant_expiry(p_account, p_posting.expires_at),
        p_row.payment_intent_id,
        p_row.created_at,
        ledger_terms_hash(
            p_account.organization_id, p_row.grant_id, v_priority, v_promotional, p_posting.expires_at
        )
    );
    IF v_covered > 0 THEN
        INSERT INTO burn_segments (organization_id, lower, upper, grant_id)
        VALUES (
            p_account.organization_id,
            p_account.consumed - v_debt,
            p_account.consumed - v_debt + v_covered,
            p_row.grant_id
        );
    END IF;
END
$$;

-- Takes up to an amount from the unexpired rest of the grants of one payment; returns the amount taken.
CREATE OR REPLACE FUNCTION ledger_take_from_payment(
    p_account accounts,
    p_payment_intent_id text,
    p_amount numeric
) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    v_grant record;
    v_taken numeric := 0;
BEGIN
    FOR v_grant IN
        SELECT
            g.id,
            least(g.remaining, p_amount) AS available
        FROM credit_grants AS g
        WHERE
            g.organization_id = p_account.organization_id
            AND g.payment_intent_id = p_payment_intent_id
            AND NOT g.spent
            AND (g.expires_at <= p_account.expired_through) IS NOT TRUE
        ORDER BY g.seq
    LOOP
        EXIT WHEN v_taken >= p_amount;
        UPDATE credit_grants AS g
        SET remaining = g.remaining - least(v_grant.available, p_amount - v_taken)
        WHERE g.organization_id = p_account.organization_id AND g.id = v_grant.id;
        v_taken := v_taken + least(v_grant.available, p_amount - v_taken);
    END LOOP;
    RETURN v_taken;
END
$$;

-- Ends an expired or voided grant: `amount` is the rest of it. A void of an expired grant is `nothing_left`.
CREATE OR REPLACE FUNCTION ledger_end_grant(
    p_account accounts,
    p_posting ledger_posting,
    p_now timestamptz,
    OUT status text,
    OUT amount numeric
) LANGUAGE plpgsql AS $$
DECLARE
    v_grant credit_grants;
BEGIN
    SELECT g.* INTO v_grant
    FROM credit_grants AS g
    WHERE g.organization_id = p_account.organization_id AND g.id = p_posting.grant_id;
    status := CASE
        WHEN v_grant.id IS NULL THEN 'unknown_grant'
        WHEN v_grant.remaining = 0 THEN 'nothing_left'
        WHEN p_posting.type = 'void' AND v_grant.expires_at <= p_account.expired_through
            THEN 'nothing_left'
        ELSE 'posted'
    END;
    IF status = 'posted' THEN
        amount := -v_grant.remaining;
        UPDATE credit_grants AS g
        SET remaining = 0, ended_at = p_now, ended_by = p_posting.type
        WHERE g.organization_id = p_account.organization_id AND g.id = v_grant.id;
    END IF;
END
$$;
