-- Posting for one organization: the general case, one posting after the other.

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
