-- Holds: reservations of credits for a time.

DROP FUNCTION IF EXISTS ledger_open_hold(accounts, uuid, numeric, timestamptz, text, bytea, text, timestamptz);

-- Captures a hold: uses the credits that it still reserves, or a part. `held` is what is not reserved any more: all
-- of them, or after a partial capture, which leaves the hold open, what it used.
CREATE OR REPLACE FUNCTION ledger_capture_hold(
    p_account accounts,
    p_posting ledger_posting,
    p_now timestamptz,
    OUT status text,
    OUT held numeric
) LANGUAGE plpgsql AS $$
DECLARE
    v_used numeric := -p_posting.amount;
    v_is_final boolean := p_posting.partial IS NOT TRUE;
    v_hold holds;
BEGIN
    SELECT h.* INTO v_hold
    FROM holds AS h
    WHERE h.organization_id = p_account.organization_id AND h.id = p_posting.hold_id;
    held := ledger_hold_rest(v_hold);
    status := CASE
        WHEN v_hold.id IS NULL THEN 'unknown_hold'
        WHEN v_hold.status <> 'active' OR v_hold.expires_at <= p_now THEN 'hold_closed'
        WHEN v_used <= held OR p_posting.past_limit THEN 'posted'
        WHEN p_posting.may_overdraw IS NOT TRUE THEN 'exceeds_hold'
        WHEN ledger_exceeds_limit(p_account, v_used - held) THEN 'insufficient'
        ELSE 'posted'
    END;
    IF status = 'posted' THEN
        UPDATE holds AS h
        SET
            captured_amount = h.captured_amount + v_used,
            status = CASE WHEN v_is_final THEN 'captured' ELSE 'active' END,
            captured_by = CASE WHEN v_is_final THEN p_posting.id END,
            closed_at = CASE WHEN v_is_final THEN p_now END
        WHERE h.organization_id = p_account.organization_id AND h.id = v_hold.id;
        held := CASE WHEN v_is_final THEN held ELSE least(held, v_used) END;
    END IF;
END
$$;

-- Writes a hold that its account covers. A hold that is already past its expiry expires with the next posting.
CREATE OR REPLACE FUNCTION ledger_open_hold(
    p_account accounts,
    p_hold holds,
    p_now timestamptz
) RETURNS holds LANGUAGE plpgsql
SET enable_seqscan = off AS $$
BEGIN
    p_hold.status := 'active';
    p_hold.captured_amount := 0;
    p_hold.expires_at := greatest(p_hold.expires_at, p_account.expired_through + interval '1 microsecond');
    p_hold.created_at := p_now;
    INSERT INTO holds (
        organization_id,
        id,
        amount,
        idempotency_key,
        request_digest,
        expires_at,
        created_at,
        description,
        user_id,
        category,
        metadata
    ) VALUES (
        p_hold.organization_id,
        p_hold.id,
        p_hold.amount,
        p_hold.idempotency_key,
        p_hold.request_digest,
        p_hold.expires_at,
        p_hold.created_at,
        p_hold.description,
        p_hold.user_id,
        p_hold.category,
        p_hold.metadata
    );
    UPDATE accounts AS a
    SET
        held = p_account.held + p_hold.amount,
        next_due_at = least(p_account.next_due_at, p_hold.expires_at),
        recharge_waits = FALSE,
        updated_at = p_now
    WHERE a.organization_id = p_account.organization_id;
    RETURN p_hold;
END
$$;

-- A hold that is requested.
CREATE OR REPLACE FUNCTION ledger_new_hold(
    p_organization_id uuid,
    p_id uuid,
    p_amount numeric,
    p_expires_at timestamptz,
    p_key text,
    p_digest bytea,
    p_description text,
    p_user_id text,
    p_category text,
    p_metadata jsonb,
    OUT hold holds
) LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    hold.organization_id := p_organization_id;
    hold.id := p_id;
    hold.amount := p_amount;
    hold.idempotency_key := p_key;
    hold.request_digest := p_digest;
    hold.expires_at := p_expires_at;
    hold.description := p_description;
    hold.user_id := p_user_id;
    hold.category := p_category;
    hold.metadata := p_metadata;
END
$$;

-- Reserves an amount for a time. The results are those of a posting: `posted`, `replayed`, `conflict`,
-- `insufficient`, `budget_exceeded`, `unknown_organization`, `closed`; with the balance, held and available credits
-- afterwards, and the budget that refuses it. It arms a recharge as usage does.
CREATE OR REPLACE FUNCTION ledger_hold(
    p_organization_id uuid,
    p_id uuid,
    p_amount numeric,
    p_expires_at timestamptz,
    p_key text,
    p_digest bytea,
    p_description text,
    p_user_id text DEFAULT NULL,
    p_category text DEFAULT NULL,
    p_metadata jsonb DEFAULT NULL
) RETURNS TABLE (
    status text,
    hold holds,
    balance numeric,
    held numeric,
    available numeric,
    budget jsonb
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_account accounts;
    v_now timestamptz;
    v_new holds;
    v_changes ledger_budget_change [];
BEGIN
    PERFORM ledger_post_organization(p_organization_id, '{}');  -- what is due expires first
    SELECT a.* INTO v_account
    FROM accounts AS a
    WHERE a.organization_id = p_organization_id
    FOR UPDATE;
    v_now := greatest(clock_timestamp(), v_account.updated_at);
    v_account.balance := v_account.balance - v_account.expired;
    v_new := ledger_new_hold(
        p_organization_id, p_id, p_amount, p_expires_at, p_key, p_digest, p_description, p_user_id, p_category,
        p_metadata
    );
    IF v_account.budgets > 0 THEN
        v_changes := ledger_budget_changes(p_organization_id, ARRAY[ledger_hold_item(v_new, p_amount)], v_now);
    END IF;

    SELECT h.* INTO hold
    FROM holds AS h
    WHERE h.organization_id = p_organization_id AND h.idempotency_key = p_key;
    status := CASE
        WHEN v_account.organization_id IS NULL THEN 'unknown_organization'
        WHEN hold.request_digest = p_digest THEN 'replayed'
        WHEN hold.id IS NOT NULL THEN 'conflict'
        WHEN v_account.closed_at IS NOT NULL THEN 'closed'
        WHEN ledger_budget_refusal(v_changes) IS NOT NULL THEN 'budget_exceeded'
        WHEN ledger_exceeds_limit(v_account, p_amount) THEN 'insufficient'
        ELSE 'posted'
    END;
    IF status = 'posted' THEN
        hold := ledger_open_hold(v_account, v_new, v_now);
        PERFORM ledger_count_budgets(p_organization_id, v_changes, v_now);
        v_account.held := v_account.held + p_amount;
        PERFORM ledger_arm_recharge(v_account, p_id, NULL, v_now);
    ELSIF status = 'budget_exceeded' THEN
        budget := ledger_budget_refusal(v_changes);
    ELSIF status = 'insufficient' THEN
        PERFORM ledger_end_recharge_wait(p_organization_id);
        PERFORM ledger_arm_recharge(v_account, NULL, p_amount, v_now);
    END IF;
    balance := v_account.balance;
    held := v_account.held;
    available := ledger_available(v_account);
    RETURN NEXT;
END
$$;

-- Whether a hold was closed by a capture of nothing, which has no row.
CREATE OR REPLACE FUNCTION ledger_captured_nothing(
    p_hold holds
) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN
        p_hold.status = 'captured'
        AND p_hold.captured_by IS NULL
        AND NOT EXISTS (
            SELECT FROM credit_transactions AS t
            WHERE
                t.organization_id = p_hold.organization_id
                AND t.idempotency_key = 'hold:' || p_hold.id || ':capture'
        );
END
$$;

-- A hold under the lock of its account, after what is due has expired. `is_open`: it has not ended.
CREATE OR REPLACE FUNCTION ledger_lock_hold(
    p_organization_id uuid,
    p_id uuid,
    OUT hold holds,
    OUT is_open boolean,
    OUT now timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_expired_through timestamptz;
BEGIN
    PERFORM ledger_post_organization(p_organization_id, '{}');
    SELECT
        greatest(clock_timestamp(), a.updated_at),
        a.expired_through
    INTO now, v_expired_through
    FROM accounts AS a
    WHERE a.organization_id = p_organization_id
    FOR UPDATE;
    SELECT h.* INTO hold
    FROM holds AS h
    WHERE h.organization_id = p_organization_id AND h.id = p_id;
    is_open := hold.status = 'active' AND hold.expires_at > v_expired_through;
END
$$;

-- Ends a hold without using what it still reserves: `released`, or `captured` where the usage turned out to be
-- nothing or was captured in parts. The results: `posted`, `replayed` (it ended in this way before), `unknown_hold`,
-- `hold_closed`.
CREATE OR REPLACE FUNCTION ledger_release(
    p_organization_id uuid,
    p_id uuid,
    p_status text DEFAULT 'released'
) RETURNS TABLE (status text, hold holds) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_lock record := ledger_lock_hold(p_organization_id, p_id);
    v_hold holds := v_lock.hold;
    v_next_due_at timestamptz;
BEGIN
    hold := v_hold;
    status := CASE
        WHEN v_hold.id IS NULL THEN 'unknown_hold'
        WHEN v_lock.is_open THEN 'posted'
        WHEN v_hold.status <> p_status THEN 'hold_closed'
        WHEN p_status = 'released' OR ledger_captured_nothing(v_hold) THEN 'replayed'
        ELSE 'hold_closed'
    END;
    IF status = 'posted' THEN
        UPDATE holds AS h
        SET status = p_status, closed_at = v_lock.now
        WHERE h.organization_id = p_organization_id AND h.id = p_id
        RETURNING h.* INTO hold;
        PERFORM ledger_release_budgets(v_hold, v_lock.now);
        v_next_due_at := ledger_next_due(p_organization_id);
        UPDATE accounts AS a
        SET
            held = a.held - ledger_hold_rest(v_hold),
            next_due_at = v_next_due_at,
            updated_at = v_lock.now
        WHERE a.organization_id = p_organization_id;
    END IF;
    RETURN NEXT;
END
$$;

-- Moves the expiry of a hold to a later moment. The results: `posted`, `replayed` (it expires no earlier already),
-- `unknown_hold`, `hold_closed`.
CREATE OR REPLACE FUNCTION ledger_extend_hold(
    p_organization_id uuid,
    p_id uuid,
    p_expires_at timestamptz
) RETURNS TABLE (status text, hold holds) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_lock record := ledger_lock_hold(p_organization_id, p_id);
    v_hold holds := v_lock.hold;
    v_next_due_at timestamptz;
BEGIN
    hold := v_hold;
    status := CASE
        WHEN v_hold.id IS NULL THEN 'unknown_hold'
        WHEN NOT v_lock.is_open THEN 'hold_closed'
        WHEN v_hold.expires_at >= p_expires_at THEN 'replayed'
        ELSE 'posted'
    END;
    IF status = 'posted' THEN
        UPDATE holds AS h
        SET expires_at = p_expires_at
        WHERE h.organization_id = p_organization_id AND h.id = p_id
        RETURNING h.* INTO hold;
        v_next_due_at := ledger_next_due(p_organization_id);
        UPDATE accounts AS a
        SET
            next_due_at = v_next_due_at,
            updated_at = v_lock.now
        WHERE a.organization_id = p_organization_id;
    END IF;
    RETURN NEXT;
END
$$;

-- Releases all active holds of an organization in one pass, takes them out of its budgets, and returns how many.
CREATE OR REPLACE FUNCTION ledger_release_all(
    p_organization_id uuid
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz;
    v_expired_through timestamptz;
    v_count bigint;
    v_amount numeric;
    v_items ledger_budget_item [];
    v_next_due_at timestamptz;
BEGIN
    PERFORM ledger_post_organization(p_organization_id, '{}');
    SELECT
        greatest(clock_timestamp(), a.updated_at),
        a.expired_through
    INTO v_now, v_expired_through
    FROM accounts AS a
    WHERE a.organization_id = p_organization_id
    FOR UPDATE;
    WITH released AS (
        UPDATE holds AS h
        SET status = 'released', closed_at = v_now
        WHERE
            h.organization_id = p_organization_id
            AND h.status = 'active'
            AND h.expires_at > v_expired_through
        RETURNING
            ledger_hold_rest(h) AS rest,
            ledger_hold_item(h, -ledger_hold_rest(h)) AS item
    )

    SELECT
        count(*),
        coalesce(sum(r.rest), 0),
        array_agg(r.item)
    INTO v_count, v_amount, v_items
    FROM released AS r;
    PERFORM ledger_count_budgets(
        p_organization_id, ledger_budget_changes(p_organization_id, v_items, v_now), v_now
    );
    v_next_due_at := ledger_next_due(p_organization_id);
    UPDATE accounts AS a
    SET
        held = a.held - v_amount,
        next_due_at = v_next_due_at,
        updated_at = v_now
    WHERE a.organization_id = p_organization_id AND v_count > 0;
    RETURN v_count;
END
$$;
