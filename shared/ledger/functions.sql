-- The ledger's functions: everything that changes a balance goes through ledger_post.
--
-- Each works for one organization under the lock on its account row (ledger_post alone takes many, in
-- the order of their ids). Rules for Citus hold: every statement names the organization, and what is
-- volatile is read into a variable first.

-- A row as it is hashed: its own fields as a JSON array.
CREATE OR REPLACE FUNCTION ledger_row_canonical(
    p_row credit_transactions
) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT convert_to(
        json_build_array(
            p_row.organization_id,
            p_row.seq,
            p_row.id,
            p_row.type,
            p_row.amount,
            p_row.counterparty,
            p_row.balance_after,
            p_row.consumed_after,
            p_row.idempotency_key,
            encode(p_row.request_digest, 'hex'),
            p_row.effective_at AT TIME ZONE 'UTC',
            p_row.created_at AT TIME ZONE 'UTC',
            p_row.description,
            p_row.category,
            p_row.quantity,
            p_row.user_id,
            p_row.grant_id,
            p_row.hold_id,
            p_row.payment_intent_id,
            p_row.metadata
        )::text,
        'UTF8'
    )
$$;

-- The hash of a row: SHA-256 over the previous row's hash and the row, so that no row can be changed,
-- dropped or moved without breaking every hash after it.
CREATE OR REPLACE FUNCTION ledger_row_hash(
    p_previous bytea,
    p_row credit_transactions
) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT sha256(p_previous || ledger_row_canonical(p_row))
$$;

-- One link of the chain: the hash before (at first the head of the ledger) and the next row.
CREATE OR REPLACE FUNCTION ledger_chain_link(
    p_state bytea,
    p_head bytea,
    p_canonical bytea
) RETURNS bytea LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN sha256(coalesce(p_state, p_head) || p_canonical);
END
$$;

-- As a window function over rows in order of seq: the hash of each row.
CREATE OR REPLACE AGGREGATE ledger_chain(p_head bytea, p_canonical bytea) (
    sfunc = ledger_chain_link,
    stype = bytea
);

-- The open grants of an organization that expire after a moment or never, in the order in which they burn:
-- lower priority number, then soonest expiry, promotional before paid, oldest. Priority by priority, so that
-- what has expired and is not posted yet is skipped in the index.
CREATE OR REPLACE FUNCTION ledger_burn_order(
    p_organization_id uuid,
    p_expiring_after timestamptz
) RETURNS SETOF credit_grants LANGUAGE sql STABLE AS $$
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

    SELECT o.*
    FROM priorities AS p
    CROSS JOIN LATERAL (
        (
            SELECT g.*
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
            SELECT g.*
            FROM credit_grants AS g
            WHERE
                g.organization_id = p_organization_id
                AND NOT g.spent
                AND g.priority = p.priority
                AND g.expires_at IS NULL
            ORDER BY g.expires_at, (NOT g.promotional), g.seq
        )
    ) AS o
$$;

-- Burns from the grants in their order what was consumed last, `p_amount`, and returns the account with the
-- grant of its open segment. What no grant covers is debt: a range of consumption without a segment.
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
    v_grant record;
    v_grants uuid [] := '{}';
    v_lowers numeric [] := '{}';
    v_uppers numeric [] := '{}';
BEGIN
    FOR v_grant IN
        SELECT
            g.id,
            g.remaining
        FROM ledger_burn_order(p_account.organization_id, p_account.expired_through) AS g
    LOOP
        v_taken := least(v_left, v_grant.remaining);
        v_grants := array_append(v_grants, v_grant.id);
        v_lowers := array_append(v_lowers, p_account.consumed - v_left);
        v_left := v_left - v_taken;
        v_uppers := array_append(v_uppers, p_account.consumed - v_left);
        EXIT WHEN v_left = 0;
    END LOOP;

    -- All but the last are taken whole. No joins: one could be planned the wrong way round, as a scan for each.
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

    -- The last segment stays open as long as its grant is the one that burns.
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

-- The hash of what a grant was opened with and no row says: in which order it burns, and when it expires.
CREATE OR REPLACE FUNCTION ledger_terms_hash(
    p_organization_id uuid,
    p_id uuid,
    p_priority smallint,
    p_promotional boolean,
    p_expires_at timestamptz
) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT sha256(
        convert_to(
            json_build_array(
                p_organization_id,
                p_id,
                p_priority,
                p_promotional,
                p_expires_at AT TIME ZONE 'UTC'
            )::text,
            'UTF8'
        )
    )
$$;

-- Opens a grant for a credit. Debt is paid with it first: the range of consumption that nothing had
-- covered is now covered by this grant.
CREATE OR REPLACE FUNCTION ledger_open_grant(
    p_account accounts,
    p_row credit_transactions,
    p_priority smallint,
    p_promotional boolean,
    p_expires_at timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
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
        p_priority,
        p_promotional,
        CASE
            WHEN p_expires_at <= p_account.expired_through
                THEN p_account.expired_through + interval '1 microsecond'
            ELSE p_expires_at
        END,
        p_row.payment_intent_id,
        p_row.created_at,
        ledger_terms_hash(
            p_account.organization_id, p_row.grant_id, p_priority, p_promotional, p_expires_at
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

-- Takes from the grants of one payment what is left of them and has not expired, up to an amount; returns what
-- it took.
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

-- Closes the holds that have expired, up to a number, those that expired first. An account that has been through
-- ledger_note_expired counts none of them as held.
CREATE OR REPLACE FUNCTION ledger_close_expired_holds(
    p_organization_id uuid,
    p_now timestamptz,
    p_holds_max integer
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off AS $$
DECLARE
    v_ids uuid [];
BEGIN
    v_ids := array(
        SELECT h.id
        FROM holds AS h
        WHERE h.organization_id = p_organization_id AND h.status = 'active' AND h.expires_at <= p_now
        ORDER BY h.expires_at
        LIMIT p_holds_max
    );
    UPDATE holds AS h
    SET status = 'expired', closed_at = p_now
    WHERE h.organization_id = p_organization_id AND h.id = any(v_ids);
END
$$;

-- When the next grant or hold of an organization expires; NULL: none will. Each by its index.
CREATE OR REPLACE FUNCTION ledger_next_due(p_organization_id uuid) RETURNS timestamptz
LANGUAGE sql STABLE
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off AS $$
    SELECT least(
        (
            SELECT g.expires_at
            FROM credit_grants AS g
            WHERE
                g.organization_id = p_organization_id
                AND NOT g.spent
                AND g.expires_at IS NOT NULL
            ORDER BY g.expires_at
            LIMIT 1
        ),
        (
            SELECT h.expires_at
            FROM holds AS h
            WHERE h.organization_id = p_organization_id AND h.status = 'active'
            ORDER BY h.expires_at
            LIMIT 1
        )
    )
$$;

-- Brings what an account says has expired up to a moment: adds the grants that expired since it last said so, and
-- takes off what the holds that did had reserved. Each is read once here, however long it takes until its
-- expiration is posted or it is closed.
CREATE OR REPLACE FUNCTION ledger_note_expired(
    p_account accounts,
    p_now timestamptz
) RETURNS accounts LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    v_expired numeric;
    v_released numeric;
BEGIN
    SELECT coalesce(sum(g.remaining), 0) INTO v_expired
    FROM credit_grants AS g
    WHERE
        g.organization_id = p_account.organization_id
        AND NOT g.spent
        AND g.expires_at > p_account.expired_through
        AND g.expires_at <= p_now;
    SELECT coalesce(sum(h.amount), 0) INTO v_released
    FROM holds AS h
    WHERE
        h.organization_id = p_account.organization_id
        AND h.status = 'active'
        AND h.expires_at > p_account.expired_through
        AND h.expires_at <= p_now;
    p_account.expired := p_account.expired + v_expired;
    p_account.held := p_account.held - v_released;
    p_account.expired_through := p_now;
    RETURN p_account;
END
$$;

-- An id like those that processes make (UUID version 7, RFC 9562): the milliseconds of a moment, a place among
-- those of the same moment, and the random end of the UUID that is passed in. Lists go by id, newest first.
CREATE OR REPLACE FUNCTION ledger_id_at(
    p_moment timestamptz,
    p_place integer,
    p_random uuid
) RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT encode(
        substring(int8send(floor(extract(EPOCH FROM p_moment) * 1000)::bigint) FROM 3)
        || substring(int4send(28672 + least(p_place, 4095)) FROM 3)  -- version 7, then 12 bits
        || substring(uuid_send(p_random) FROM 9),
        'hex'
    )::uuid
$$;

-- What has expired in an organization, as postings, up to a number: each takes what is left of its grant.
CREATE OR REPLACE FUNCTION ledger_expirations(
    p_organization_id uuid,
    p_now timestamptz,
    p_grants_max integer
) RETURNS ledger_posting [] LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off AS $$
DECLARE
    v_grant record;
    v_posting ledger_posting;
    v_postings ledger_posting [] := '{}';
BEGIN
    FOR v_grant IN
        SELECT
            e.id,
            e.expires_at
        FROM (
            SELECT
                g.id,
                g.expires_at,
                g.seq
            FROM credit_grants AS g
            WHERE g.organization_id = p_organization_id AND NOT g.spent AND g.expires_at <= p_now
            ORDER BY g.expires_at
            LIMIT p_grants_max
        ) AS e
        ORDER BY e.expires_at, e.seq
    LOOP
        v_posting.id := ledger_id_at(p_now, cardinality(v_postings), gen_random_uuid());
        v_posting.type := 'expiration';
        v_posting.counterparty := 'breakage';
        v_posting.key := 'expiration:' || v_grant.id;
        v_posting.digest := sha256(convert_to(v_posting.key, 'UTF8'));
        v_posting.effective_at := v_grant.expires_at;
        v_posting.grant_id := v_grant.id;
        v_postings := array_append(v_postings, v_posting);
    END LOOP;
    RETURN v_postings;
END
$$;

-- Posts transfers of one organization, in the order given, in the caller's transaction; grants and holds
-- that are due expire before them. No posting spends what has expired; `p_expirations_max` grants are posted now and
-- as many holds closed, and the rest later: until then a row's balance_after still counts those grants.
--
-- A result for each, in the same order: `posted`; `replayed` (this key was posted before with the same
-- request: the first row is the answer); `conflict` (this key was posted before with another request);
-- `insufficient` (what is available does not cover it); `unknown_organization`; `closed`;
-- `unknown_grant`, `nothing_left` (void); `unknown_hold`, `hold_closed`, `exceeds_hold` (capture). A
-- refused posting leaves the rest of its batch unharmed. `held` and `available` are set where it is
-- `insufficient`: what was on hold then, and what a debit could take.
--
-- Usage and captures that leave less than the threshold arm a recharge; usage that is refused arms one too
-- (see ledger_arm). What takes credits back arms none, and makes auto-recharge wait for the next usage.
CREATE OR REPLACE FUNCTION ledger_post_organization(
    p_organization_id uuid,
    p_postings ledger_posting [],
    p_expirations_max integer DEFAULT 20
) RETURNS TABLE (
    status text,
    id uuid,
    seq bigint,
    amount numeric,
    balance_after numeric,
    created_at timestamptz,
    held numeric,
    available numeric
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_account accounts;
    v_posting ledger_posting;
    v_postings ledger_posting [] := p_postings;
    v_index integer := 0;
    v_known_seqs bigint [];
    v_known credit_transactions;
    v_row credit_transactions;
    v_rows credit_transactions [] := '{}';
    v_hold holds;
    v_grant credit_grants;
    v_now timestamptz;
    v_due boolean;
    v_burn numeric;
    -- Consumed by the postings so far, and not burned from the grants yet: a run of debits burns as one.
    v_unburned numeric := 0;
    v_due_changed boolean := FALSE;
    -- The usage that arms a recharge, and the most that was refused: what takes credits back clears both.
    v_arms_id uuid;
    v_needed numeric;
    v_spendable numeric;
    v_waited boolean;
BEGIN
    -- The lock comes first: every statement after it sees what the holders before us committed.
    SELECT a.* INTO v_account
    FROM accounts AS a
    WHERE a.organization_id = p_organization_id
    FOR UPDATE;

    -- Along a ledger, created_at never goes back: a moment is found in it by bisection.
    v_now := greatest(clock_timestamp(), v_account.updated_at);
    v_waited := v_account.recharge_waits;
    v_due := coalesce(v_account.next_due_at <= v_now, FALSE);
    IF v_due THEN
        v_account := ledger_note_expired(v_account, v_now);
        PERFORM ledger_close_expired_holds(p_organization_id, v_now, p_expirations_max);
        -- From here to the end, without what has expired: what there is to spend.
        v_account.balance := v_account.balance - v_account.expired;
        v_postings := ledger_expirations(p_organization_id, v_now, p_expirations_max) || v_postings;
    END IF;

    -- A look-up for each key, not a join: no statistics, however old, can make it a scan.
    SELECT
        array_agg(
            (
                SELECT t.seq
                FROM credit_transactions AS t
                WHERE t.organization_id = p_organization_id AND t.idempotency_key = p.key
            )
            ORDER BY p.ordinality
        )
    INTO v_known_seqs
    FROM unnest(v_postings) WITH ORDINALITY AS p;

    FOREACH v_posting IN ARRAY v_postings
    LOOP
        v_index := v_index + 1;
        amount := v_posting.amount;
        balance_after := v_account.balance;
        id := NULL;
        seq := NULL;
        created_at := NULL;
        held := NULL;
        available := NULL;
        status := CASE
            WHEN v_account.organization_id IS NULL THEN 'unknown_organization'
            WHEN v_account.closed_at IS NOT NULL AND v_posting.type <> 'expiration' THEN 'closed'
        END;

        -- This key has been posted before, in the table or (twice in one batch) a moment ago.
        v_known := NULL;
        IF v_known_seqs[v_index] IS NOT NULL THEN
            SELECT t.* INTO v_known
            FROM credit_transactions AS t
            WHERE t.organization_id = p_organization_id AND t.seq = v_known_seqs[v_index];
        ELSIF v_posting.repeated THEN
            SELECT r.* INTO v_known
            FROM unnest(v_rows) AS r
            WHERE r.idempotency_key = v_posting.key;
        END IF;
        IF v_known.id IS NOT NULL THEN
            status := CASE
                WHEN v_known.request_digest = v_posting.digest THEN 'replayed' ELSE 'conflict'
            END;
            id := v_known.id;
            seq := v_known.seq;
            amount := v_known.amount;
            balance_after := v_known.balance_after;
            created_at := v_known.created_at;
        END IF;
        IF status IS NOT NULL THEN
            RETURN NEXT;
            CONTINUE;
        END IF;

        -- Whatever looks at the grants finds what the debits before it have left.
        IF
            v_unburned > 0
            AND (v_posting.type IN ('refund', 'dispute', 'expiration', 'void') OR amount > 0)
        THEN
            v_account := ledger_burn(v_account, v_unburned);
            v_unburned := 0;
        END IF;

        -- How much burns in order, and what else the type asks for.
        v_burn := greatest(-amount, 0);
        CASE v_posting.type
            WHEN 'usage', 'adjustment' THEN
                IF
                    v_burn > 0
                    AND v_posting.may_overdraw IS NOT TRUE
                    AND v_account.balance - v_account.held - v_burn < -v_account.overdraft_limit
                THEN
                    status := 'insufficient';
                END IF;
            WHEN 'hold_capture' THEN
                SELECT h.* INTO v_hold
                FROM holds AS h
                WHERE h.organization_id = p_organization_id AND h.id = v_posting.hold_id;
                status := CASE
                    WHEN v_hold.id IS NULL THEN 'unknown_hold'
                    WHEN v_hold.status <> 'active' OR v_hold.expires_at <= v_now THEN 'hold_closed'
                    WHEN v_burn <= v_hold.amount THEN NULL
                    WHEN v_posting.may_overdraw IS NOT TRUE THEN 'exceeds_hold'
                    WHEN
                        v_account.balance - v_account.held - (v_burn - v_hold.amount)
                        < -v_account.overdraft_limit
                        THEN 'insufficient'
                END;
                IF status IS NULL THEN
                    UPDATE holds AS h
                    SET status = 'captured', captured_amount = v_burn, closed_at = v_now
                    WHERE h.organization_id = p_organization_id AND h.id = v_hold.id;
                    v_account.held := v_account.held - v_hold.amount;
                    v_due_changed := TRUE;
                END IF;
            WHEN 'expiration', 'void' THEN
                SELECT g.* INTO v_grant
                FROM credit_grants AS g
                WHERE g.organization_id = p_organization_id AND g.id = v_posting.grant_id;
                status := CASE
                    WHEN v_grant.id IS NULL THEN 'unknown_grant'
                    WHEN v_grant.remaining = 0 THEN 'nothing_left'
                    WHEN v_posting.type = 'void' AND v_grant.expires_at <= v_account.expired_through
                        THEN 'nothing_left'
                END;
                IF status IS NULL THEN
                    amount := -v_grant.remaining;
                    UPDATE credit_grants AS g
                    SET remaining = 0, ended_at = v_now, ended_by = v_posting.type
                    WHERE g.organization_id = p_organization_id AND g.id = v_grant.id;
                    v_due_changed := TRUE;
                END IF;
            WHEN 'refund', 'dispute' THEN
                v_burn := v_burn - ledger_take_from_payment(
                    v_account, v_posting.payment_intent_id, v_burn
                );
                v_due_changed := TRUE;
            ELSE NULL;
        END CASE;
        IF status = 'insufficient' THEN
            held := v_account.held;
            available := ledger_available(v_account);
            IF v_posting.type <> 'adjustment' THEN
                v_account.recharge_waits := FALSE;
                v_needed := greatest(
                    v_needed,
                    CASE v_posting.type
                        WHEN 'hold_capture' THEN v_burn - v_hold.amount ELSE v_burn
                    END
                );
            END IF;
        END IF;
        IF status IS NOT NULL THEN
            RETURN NEXT;
            CONTINUE;
        END IF;

        v_row.organization_id := p_organization_id;
        v_row.seq := v_account.last_seq + 1;
        v_row.id := v_posting.id;
        v_row.type := v_posting.type;
        v_row.amount := amount;
        v_row.counterparty := v_posting.counterparty;
        v_row.idempotency_key := v_posting.key;
        v_row.request_digest := v_posting.digest;
        v_row.effective_at := coalesce(v_posting.effective_at, v_now);
        v_row.created_at := v_now;
        v_row.description := v_posting.description;
        v_row.category := v_posting.category;
        v_row.quantity := v_posting.quantity;
        v_row.user_id := v_posting.user_id;
        v_row.grant_id := v_posting.grant_id;
        v_row.hold_id := v_posting.hold_id;
        v_row.payment_intent_id := v_posting.payment_intent_id;
        v_row.metadata := v_posting.metadata;

        IF amount > 0 THEN
            v_row.grant_id := v_row.id;
            PERFORM ledger_open_grant(
                v_account,
                v_row,
                coalesce(v_posting.priority, 50::smallint),
                coalesce(v_posting.promotional, FALSE),
                v_posting.expires_at
            );
            v_due_changed := TRUE;
        ELSE
            v_account.consumed := v_account.consumed + v_burn;
            v_unburned := v_unburned + v_burn;
        END IF;

        IF v_posting.type = 'expiration' THEN
            v_account.expired := v_account.expired + amount;
        ELSE
            v_account.balance := v_account.balance + amount;
        END IF;
        v_spendable := v_account.balance - v_account.held;
        CASE
            WHEN v_posting.type IN ('usage', 'hold_capture') THEN
                v_account.recharge_waits := FALSE;
                v_arms_id := CASE WHEN v_spendable < v_account.recharge_below THEN v_row.id END;
            WHEN
                v_posting.type IN ('refund', 'dispute', 'void', 'expiration')
                -- An adjustment that alone crosses the threshold.
                OR (
                    amount < 0
                    AND v_spendable < v_account.recharge_below
                    AND v_spendable - amount >= v_account.recharge_below
                )
                THEN
                v_account.recharge_waits := TRUE;
                v_arms_id := NULL;
                v_needed := NULL;
            ELSE NULL;
        END CASE;
        v_account.last_seq := v_row.seq;
        v_row.balance_after := v_account.balance + v_account.expired;
        v_row.consumed_after := v_account.consumed;
        v_row.hash := ledger_row_hash(v_account.last_hash, v_row);
        v_account.last_hash := v_row.hash;
        v_rows := array_append(v_rows, v_row);

        IF v_posting.type <> 'expiration' THEN
            status := 'posted';
            id := v_row.id;
            seq := v_row.seq;
            balance_after := v_row.balance_after;
            created_at := v_now;
            RETURN NEXT;
        END IF;
    END LOOP;

    IF v_unburned > 0 THEN
        v_account := ledger_burn(v_account, v_unburned);
    END IF;
    IF cardinality(v_rows) > 0 OR v_due THEN
        v_account.balance := v_account.balance + v_account.expired;
        PERFORM ledger_write(v_account, v_rows, v_now, v_due OR v_due_changed);
        v_account.balance := v_account.balance - v_account.expired;
    ELSIF v_account.recharge_waits IS DISTINCT FROM v_waited THEN
        PERFORM ledger_end_wait(p_organization_id);
    END IF;
    IF v_arms_id IS NOT NULL OR v_needed IS NOT NULL THEN
        PERFORM ledger_arm(v_account, v_arms_id, v_needed, v_now);
    END IF;
END
$$;

-- What a debit may take now.
CREATE OR REPLACE FUNCTION ledger_available(
    p_account accounts
) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT greatest(p_account.balance - p_account.held + p_account.overdraft_limit, 0)
$$;

-- Lets the clock arm a recharge again: usage or a hold was asked for since credits were taken back.
CREATE OR REPLACE FUNCTION ledger_end_wait(
    p_organization_id uuid
) RETURNS void LANGUAGE sql AS $$
    UPDATE accounts AS a
    SET recharge_waits = FALSE
    WHERE a.organization_id = p_organization_id
$$;

-- Arms a recharge where what is spendable (balance less held) is below the threshold, or where `p_needed` was
-- refused and a recharge raises what is spendable: it is below what the rule charges up to. While an attempt
-- is live there is no second one; one that is only armed takes a larger `needed` over.
--
-- `p_id` is the transaction or hold that armed it. A refusal has none: its caller may ask for it again.
CREATE OR REPLACE FUNCTION ledger_arm(
    p_account accounts,
    p_id uuid,
    p_needed numeric,
    p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_spendable numeric := p_account.balance - p_account.held;
    v_arms boolean := v_spendable < p_account.recharge_below;
    v_id uuid := coalesce(p_id, ledger_id_at(p_now, 0, gen_random_uuid()));
BEGIN
    IF NOT v_arms AND p_needed IS NOT NULL THEN
        SELECT v_spendable < coalesce(s.target, s.threshold + s.amount) INTO v_arms
        FROM auto_recharges AS s
        WHERE s.organization_id = p_account.organization_id AND s.state = 'active';
    END IF;
    IF v_arms IS NOT TRUE THEN
        RETURN;
    END IF;

    INSERT INTO recharge_attempts (organization_id, id, needed, created_at)
    VALUES (p_account.organization_id, v_id, p_needed, p_now)
    ON CONFLICT (organization_id)
    WHERE state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
    DO NOTHING;
    IF NOT FOUND AND p_needed IS NOT NULL THEN
        UPDATE recharge_attempts AS r
        SET needed = p_needed
        WHERE
            r.organization_id = p_account.organization_id
            AND r.state = 'armed'
            AND (r.needed < p_needed) IS NOT FALSE;
    END IF;
END
$$;

-- Announces that a balance has fallen below what counts as low, or to nothing, and that it has risen to that
-- again: each once. Returns whether the last of these that was announced is that it is low.
CREATE OR REPLACE FUNCTION ledger_announce_balance(
    p_account accounts,
    p_before numeric,
    p_cause uuid,
    p_now timestamptz
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_type text := CASE
        WHEN p_account.balance <= 0 AND p_before > 0 THEN 'credits.depleted'
        WHEN
            p_account.balance < p_account.low_below
            AND p_account.balance < p_before
            AND (p_before >= p_account.low_below OR NOT p_account.low_announced)
            THEN 'credits.low'
        WHEN
            p_account.balance >= p_account.low_below
            AND p_account.balance > p_before
            AND p_account.low_announced
            THEN 'credits.recovered'
    END;
BEGIN
    IF v_type IS NOT NULL THEN
        PERFORM announce(
            p_account.organization_id,
            md5(v_type || p_cause)::uuid,
            v_type,
            jsonb_build_object('balance', p_account.balance, 'threshold', p_account.low_below),
            p_now
        );
        RETURN v_type <> 'credits.recovered';
    END IF;
    -- Without a threshold, any credit ends it.
    RETURN p_account.low_announced AND (p_account.low_below IS NOT NULL OR p_account.balance <= 0);
END
$$;

-- Tells of grants that will expire soon, each once; returns how many there were. Takes no account's lock.
CREATE OR REPLACE FUNCTION ledger_tell_expiring(
    p_now timestamptz,
    p_within interval,
    p_grants_max integer
) RETURNS bigint LANGUAGE sql AS $$
    WITH soon AS (
        SELECT
            g.organization_id,
            g.id
        FROM credit_grants AS g
        WHERE
            NOT g.spent
            AND g.expires_at > p_now
            AND g.expires_at <= p_now + p_within
            AND g.expiry_told_at IS NULL
        ORDER BY g.expires_at
        LIMIT p_grants_max
        FOR UPDATE SKIP LOCKED
    ),

    told AS (
        UPDATE credit_grants AS g
        SET expiry_told_at = p_now
        FROM soon AS s
        WHERE g.organization_id = s.organization_id AND g.id = s.id
        RETURNING
            g.organization_id,
            g.id,
            g.remaining,
            g.expires_at
    )

    SELECT count(*)
    FROM told AS t
    CROSS JOIN LATERAL announce(
        t.organization_id,
        md5('credits.expiring' || t.id)::uuid,
        'credits.expiring',
        jsonb_build_object('grantId', t.id, 'amount', t.remaining, 'expiresAt', t.expires_at),
        p_now
    )
$$;

-- Writes what a run of postings came to: the rows, the usage totals, the account, and what is announced of
-- its balance.
CREATE OR REPLACE FUNCTION ledger_write(
    p_account accounts,
    p_rows credit_transactions [],
    p_now timestamptz,
    p_due_changed boolean
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_next_due_at timestamptz := p_account.next_due_at;
    v_low_announced boolean := p_account.low_announced;
BEGIN
    INSERT INTO credit_transactions SELECT r.* FROM unnest(p_rows) AS r;

    INSERT INTO usage_totals AS u (organization_id, category, hour, quantity, cost, transactions)
    SELECT
        p_account.organization_id,
        r.category,
        date_trunc('hour', r.effective_at, 'UTC'),
        sum(coalesce(r.quantity, 0)),
        sum(-r.amount),
        count(*)
    FROM unnest(p_rows) AS r
    WHERE r.type IN ('usage', 'hold_capture') AND r.category IS NOT NULL
    GROUP BY 2, 3
    ON CONFLICT (organization_id, category, hour) DO UPDATE
    SET
        quantity = u.quantity + excluded.quantity,
        cost = u.cost + excluded.cost,
        transactions = u.transactions + excluded.transactions;

    IF p_due_changed THEN
        v_next_due_at := ledger_next_due(p_account.organization_id);
    END IF;
    IF cardinality(p_rows) > 0 THEN
        v_low_announced := ledger_announce_balance(
            p_account,
            p_rows[1].balance_after - p_rows[1].amount,
            p_rows[cardinality(p_rows)].id,
            p_now
        );
    END IF;
    UPDATE accounts AS a
    SET
        balance = p_account.balance,
        held = p_account.held,
        consumed = p_account.consumed,
        burning_grant_id = p_account.burning_grant_id,
        expired = p_account.expired,
        expired_through = p_account.expired_through,
        next_due_at = v_next_due_at,
        last_seq = p_account.last_seq,
        last_hash = p_account.last_hash,
        low_announced = v_low_announced,
        recharge_waits = p_account.recharge_waits,
        updated_at = p_now
    WHERE a.organization_id = p_account.organization_id;
END
$$;

-- The organizations for which a batch holds only plain debits, all of them together within the burning
-- grant and the limit, and with nothing else to set off: what each comes to is known without deciding row
-- by row, if its key is new. The accounts are locked already.
CREATE OR REPLACE FUNCTION ledger_plain_organizations(
    p_postings ledger_posting [],
    p_now timestamptz
) RETURNS uuid [] LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    v_plain uuid [];
BEGIN
    SELECT array_agg(a.organization_id) INTO v_plain
    FROM (
        SELECT
            p.organization_id,
            -sum(p.amount) AS burn
        FROM unnest(p_postings) AS p
        GROUP BY p.organization_id
        HAVING
            bool_and(
                p.type IN ('usage', 'adjustment') AND p.amount < 0 AND p.repeated IS NOT TRUE
            )
    ) AS s
    INNER JOIN accounts AS a ON s.organization_id = a.organization_id
    CROSS JOIN LATERAL (
        SELECT
            g.id,
            g.remaining
        FROM credit_grants AS g
        WHERE g.organization_id = a.organization_id AND NOT g.spent
        ORDER BY g.priority, g.expires_at, (NOT g.promotional), g.seq
        LIMIT 1
    ) AS lot
    WHERE
        a.closed_at IS NULL
        AND (a.next_due_at <= p_now) IS NOT TRUE
        AND a.burning_grant_id = lot.id
        AND s.burn < lot.remaining
        AND a.balance - a.held - s.burn >= -a.overdraft_limit
        -- What arms a recharge, ends its wait or is to be announced goes the other way.
        AND NOT a.recharge_waits
        AND (a.balance - a.held - s.burn < a.recharge_below) IS NOT TRUE
        AND (
            a.balance - s.burn < a.low_below
            AND (a.balance >= a.low_below OR NOT a.low_announced)
        ) IS NOT TRUE
        AND a.balance > s.burn;
    RETURN v_plain;
END
$$;

-- Posts the plain debits (see above) of any number of organizations, each table in one statement. Row by
-- row it comes to what ledger_post_organization comes to. A key that is taken is a unique violation.
--
-- Its plan is made once and goes by index, since it may be made while the tables are still empty.
CREATE OR REPLACE FUNCTION ledger_post_plain(
    p_postings ledger_posting [],
    p_organizations uuid [],
    p_now timestamptz
) RETURNS TABLE (
    place integer,
    status text,
    id uuid,
    seq bigint,
    amount numeric,
    balance_after numeric,
    created_at timestamptz
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH decided AS (
        SELECT
            p.ordinality::integer AS place,
            a.organization_id,
            a.last_seq + row_number() OVER until_here AS seq,
            p.id,
            p.type,
            p.amount::numeric(38, 9) AS amount,
            p.counterparty,
            (a.balance + sum(p.amount) OVER until_here)::numeric(38, 9) AS balance_after,
            (a.consumed - sum(p.amount) OVER until_here)::numeric(38, 9) AS consumed_after,
            p.key,
            p.digest,
            coalesce(p.effective_at, greatest(p_now, a.updated_at)) AS effective_at,
            greatest(p_now, a.updated_at) AS created_at,
            p.description,
            p.category,
            p.quantity::numeric(38, 9) AS quantity,
            p.user_id,
            p.grant_id,
            p.hold_id,
            p.payment_intent_id,
            p.metadata,
            a.last_hash,
            a.burning_grant_id,
            a.consumed AS consumed_before,
            lead(FALSE, 1, TRUE) OVER (
                PARTITION BY a.organization_id ORDER BY p.ordinality
            ) AS is_last
        FROM unnest(p_organizations) AS o (organization_id)
        INNER JOIN accounts AS a ON o.organization_id = a.organization_id
        INNER JOIN unnest(p_postings) WITH ORDINALITY AS p
            ON a.organization_id = p.organization_id
        WINDOW
            until_here AS (
                PARTITION BY a.organization_id ORDER BY p.ordinality ROWS UNBOUNDED PRECEDING
            )
    ),

    posted AS MATERIALIZED (
        SELECT
            d.*,
            ledger_chain(
                d.last_hash,
                ledger_row_canonical(
                    row(
                        d.organization_id,
                        d.seq,
                        d.id,
                        d.type,
                        d.amount,
                        d.counterparty,
                        d.balance_after,
                        d.consumed_after,
                        d.key,
                        d.digest,
                        d.effective_at,
                        d.created_at,
                        d.description,
                        d.category,
                        d.quantity,
                        d.user_id,
                        d.grant_id,
                        d.hold_id,
                        d.payment_intent_id,
                        d.metadata,
                        NULL
                    )::credit_transactions
                )
            ) OVER (
                PARTITION BY d.organization_id ORDER BY d.place ROWS UNBOUNDED PRECEDING
            ) AS hash
        FROM decided AS d
    ),

    appended AS (
        INSERT INTO credit_transactions
        SELECT
            r.organization_id,
            r.seq,
            r.id,
            r.type,
            r.amount,
            r.counterparty,
            r.balance_after,
            r.consumed_after,
            r.key,
            r.digest,
            r.effective_at,
            r.created_at,
            r.description,
            r.category,
            r.quantity,
            r.user_id,
            r.grant_id,
            r.hold_id,
            r.payment_intent_id,
            r.metadata,
            r.hash
        FROM posted AS r
    ),

    totalled AS (
        INSERT INTO usage_totals AS u (organization_id, category, hour, quantity, cost, transactions)
        SELECT
            r.organization_id,
            r.category,
            date_trunc('hour', r.effective_at, 'UTC'),
            sum(coalesce(r.quantity, 0)),
            sum(-r.amount),
            count(*)
        FROM posted AS r
        WHERE r.type = 'usage' AND r.category IS NOT NULL
        GROUP BY 1, 2, 3
        ON CONFLICT (organization_id, category, hour) DO UPDATE
        SET
            quantity = u.quantity + excluded.quantity,
            cost = u.cost + excluded.cost,
            transactions = u.transactions + excluded.transactions
    ),

    burned AS (
        UPDATE credit_grants AS g
        SET remaining = g.remaining - (r.consumed_after - r.consumed_before)
        FROM posted AS r
        WHERE
            r.is_last
            AND g.organization_id = r.organization_id
            AND g.id = r.burning_grant_id
    ),

    heads AS (
        UPDATE accounts AS a
        SET
            balance = r.balance_after,
            consumed = r.consumed_after,
            last_seq = r.seq,
            last_hash = r.hash,
            updated_at = r.created_at
        FROM posted AS r
        WHERE r.is_last AND a.organization_id = r.organization_id
    )

    SELECT
        r.place,
        'posted',
        r.id,
        r.seq,
        r.amount::numeric,
        r.balance_after::numeric,
        r.created_at
    FROM posted AS r;
END
$$;

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

-- Reserves an amount for a time. A result as of a posting: `posted`, `replayed`, `conflict`,
-- `insufficient`, `unknown_organization`, `closed`; with the balance, what is on hold and what is available as
-- they are then. It arms a recharge as usage does.
CREATE OR REPLACE FUNCTION ledger_hold(
    p_organization_id uuid,
    p_id uuid,
    p_amount numeric,
    p_expires_at timestamptz,
    p_key text,
    p_digest bytea,
    p_description text
) RETURNS TABLE (
    status text,
    hold holds,
    balance numeric,
    held numeric,
    available numeric
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_account accounts;
    v_now timestamptz;
BEGIN
    PERFORM ledger_post_organization(p_organization_id, '{}');  -- what is due expires first
    SELECT a.* INTO v_account
    FROM accounts AS a
    WHERE a.organization_id = p_organization_id
    FOR UPDATE;
    v_now := greatest(clock_timestamp(), v_account.updated_at);
    v_account.balance := v_account.balance - v_account.expired;

    SELECT h.* INTO hold
    FROM holds AS h
    WHERE h.organization_id = p_organization_id AND h.idempotency_key = p_key;
    status := CASE
        WHEN v_account.organization_id IS NULL THEN 'unknown_organization'
        WHEN hold.request_digest = p_digest THEN 'replayed'
        WHEN hold.id IS NOT NULL THEN 'conflict'
        WHEN v_account.closed_at IS NOT NULL THEN 'closed'
        WHEN v_account.balance - v_account.held - p_amount < -v_account.overdraft_limit
            THEN 'insufficient'
        ELSE 'posted'
    END;
    IF status = 'posted' THEN
        INSERT INTO holds AS h (
            organization_id,
            id,
            amount,
            idempotency_key,
            request_digest,
            expires_at,
            created_at,
            description
        ) VALUES (
            p_organization_id,
            p_id,
            p_amount,
            p_key,
            p_digest,
            greatest(p_expires_at, v_account.expired_through + interval '1 microsecond'),
            v_now,
            p_description
        )
        RETURNING h.* INTO hold;
        v_account.held := v_account.held + p_amount;
        UPDATE accounts AS a
        SET
            held = v_account.held,
            next_due_at = least(v_account.next_due_at, hold.expires_at),
            recharge_waits = FALSE,
            updated_at = v_now
        WHERE a.organization_id = p_organization_id;
        PERFORM ledger_arm(v_account, p_id, NULL, v_now);
    ELSIF status = 'insufficient' THEN
        IF v_account.recharge_waits THEN
            PERFORM ledger_end_wait(p_organization_id);
        END IF;
        PERFORM ledger_arm(v_account, NULL, p_amount, v_now);
    END IF;
    balance := v_account.balance;
    held := v_account.held;
    available := ledger_available(v_account);
    RETURN NEXT;
END
$$;

-- Gives a reservation up. A result: `posted`, `replayed` (it was released before), `unknown_hold`,
-- `hold_closed` (it was captured, or has expired).
CREATE OR REPLACE FUNCTION ledger_release(
    p_organization_id uuid,
    p_id uuid
) RETURNS TABLE (status text, hold holds) LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz;
    v_expired_through timestamptz;
BEGIN
    PERFORM ledger_post_organization(p_organization_id, '{}');
    SELECT
        greatest(clock_timestamp(), a.updated_at),
        a.expired_through
    INTO v_now, v_expired_through
    FROM accounts AS a
    WHERE a.organization_id = p_organization_id
    FOR UPDATE;
    SELECT h.* INTO hold
    FROM holds AS h
    WHERE h.organization_id = p_organization_id AND h.id = p_id;
    status := CASE
        WHEN hold.id IS NULL THEN 'unknown_hold'
        WHEN hold.status = 'released' THEN 'replayed'
        WHEN hold.status <> 'active' OR hold.expires_at <= v_expired_through THEN 'hold_closed'
        ELSE 'posted'
    END;
    IF status = 'posted' THEN
        UPDATE holds AS h
        SET status = 'released', closed_at = v_now
        WHERE h.organization_id = p_organization_id AND h.id = p_id
        RETURNING h.* INTO hold;
        UPDATE accounts AS a
        SET
            held = a.held - hold.amount,
            next_due_at = ledger_next_due(p_organization_id),
            updated_at = v_now
        WHERE a.organization_id = p_organization_id;
    END IF;
    RETURN NEXT;
END
$$;

-- What an organization owned at a moment: the balance after its last row until then, found by bisection
-- along seq, since created_at never goes back.
CREATE OR REPLACE FUNCTION ledger_balance_at(
    p_organization_id uuid,
    p_moment timestamptz
) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_low bigint := 0;
    v_high bigint;
    v_middle bigint;
BEGIN
    SELECT a.last_seq INTO v_high FROM accounts AS a WHERE a.organization_id = p_organization_id;
    WHILE v_low < v_high LOOP
        v_middle := (v_low + v_high + 1) / 2;
        IF (
            SELECT t.created_at
            FROM credit_transactions AS t
            WHERE t.organization_id = p_organization_id AND t.seq = v_middle
        ) <= p_moment THEN
            v_low := v_middle;
        ELSE
            v_high := v_middle - 1;
        END IF;
    END LOOP;
    RETURN coalesce(
        (
            SELECT t.balance_after
            FROM credit_transactions AS t
            WHERE t.organization_id = p_organization_id AND t.seq = v_low
        ),
        0
    );
END
$$;

-- The first row whose consumption goes beyond a point, found by bisection along seq, since consumed_after
-- never goes back.
CREATE OR REPLACE FUNCTION ledger_seq_beyond(
    p_organization_id uuid,
    p_consumed numeric
) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_low bigint := 1;
    v_high bigint;
    v_middle bigint;
BEGIN
    SELECT a.last_seq + 1 INTO v_high FROM accounts AS a WHERE a.organization_id = p_organization_id;
    WHILE v_low < v_high LOOP
        v_middle := (v_low + v_high) / 2;
        IF (
            SELECT t.consumed_after
            FROM credit_transactions AS t
            WHERE t.organization_id = p_organization_id AND t.seq = v_middle
        ) > p_consumed THEN
            v_high := v_middle;
        ELSE
            v_low := v_middle + 1;
        END IF;
    END LOOP;
    RETURN v_low;
END
$$;

-- What a grant paid for, oldest first: the debits after a given row, up to a number. Reads the grant's segments
-- in their order and of each the rows that it covers, and stops.
CREATE OR REPLACE FUNCTION ledger_uses(
    p_organization_id uuid,
    p_grant_id uuid,
    p_after bigint,
    p_uses_max integer
) RETURNS TABLE (
    amount numeric,
    transaction_id uuid,
    seq bigint,
    type text,
    created_at timestamptz
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off AS $$
DECLARE
    v_from numeric := 0;
    v_left bigint := p_uses_max;
    v_found bigint;
    v_first bigint;
    v_last bigint;
    v_segment record;
BEGIN
    SELECT t.consumed_after INTO v_from
    FROM credit_transactions AS t
    WHERE t.organization_id = p_organization_id AND t.seq = p_after;
    SELECT s.lower INTO v_from
    FROM burn_segments AS s
    WHERE
        s.organization_id = p_organization_id
        AND s.grant_id = p_grant_id
        AND s.lower <= coalesce(v_from, 0)
    ORDER BY s.lower DESC
    LIMIT 1;

    FOR v_segment IN
        SELECT
            s.lower,
            coalesce(s.upper, a.consumed) AS upper
        FROM burn_segments AS s
        INNER JOIN accounts AS a ON s.organization_id = a.organization_id
        WHERE
            s.organization_id = p_organization_id
            AND s.grant_id = p_grant_id
            AND s.lower >= coalesce(v_from, 0)
        ORDER BY s.lower
    LOOP
        v_first := greatest(p_after + 1, ledger_seq_beyond(p_organization_id, v_segment.lower));
        v_last := ledger_seq_beyond(p_organization_id, v_segment.upper - 0.000000001);
        RETURN QUERY
        SELECT
            least(t.consumed_after, v_segment.upper)
            - greatest(coalesce(b.consumed_after, 0), v_segment.lower),
            t.id,
            t.seq,
            t.type,
            t.created_at
        FROM credit_transactions AS t
        LEFT JOIN LATERAL (
            SELECT c.consumed_after
            FROM credit_transactions AS c
            WHERE c.organization_id = p_organization_id AND c.seq = t.seq - 1
        ) AS b ON TRUE
        WHERE
            t.organization_id = p_organization_id
            AND t.seq BETWEEN v_first AND v_last
            AND t.consumed_after > coalesce(b.consumed_after, 0)
        ORDER BY t.seq
        LIMIT v_left;
        GET DIAGNOSTICS v_found = ROW_COUNT;
        v_left := v_left - v_found;
        EXIT WHEN v_left <= 0;
    END LOOP;
END
$$;

-- What the system's accounts come to: the other side of every transfer.
CREATE OR REPLACE VIEW system_accounts AS
SELECT
    t.counterparty AS account,
    -sum(t.amount) AS balance,
    count(*) AS transactions
FROM credit_transactions AS t
GROUP BY t.counterparty;

-- Every account of the ledger and what it comes to. The total is zero, or something is broken.
CREATE OR REPLACE VIEW trial_balance AS
SELECT
    'organizations' AS account,
    coalesce(sum(a.balance), 0) AS balance
FROM accounts AS a
UNION ALL
SELECT
    s.account,
    s.balance
FROM system_accounts AS s;
