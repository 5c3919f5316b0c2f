-- The ends of holds: released, captured without usage, or moved to a later moment.

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

-- Ends a hold; see ledger_release.
CREATE OR REPLACE FUNCTION ledger_end_hold(
    p_organization_id uuid,
    p_id uuid,
    p_status text,
    OUT status text,
    OUT hold holds
) LANGUAGE plpgsql AS $$
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
DECLARE
    v_result record := ledger_end_hold(p_organization_id, p_id, p_status);
BEGIN
    status := v_result.status;
    hold := v_result.hold;
    RETURN NEXT;
END
$$;

-- Moves the expiry of a hold to a later moment; see ledger_extend_hold.
CREATE OR REPLACE FUNCTION ledger_move_expiry(
    p_organization_id uuid,
    p_id uuid,
    p_expires_at timestamptz,
    OUT status text,
    OUT hold holds
) LANGUAGE plpgsql AS $$
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
END
$$;

-- Moves the expiry of a hold to a later moment. The results: `posted`, `replayed` (it expires no earlier already),
-- `unknown_hold`, `hold_closed`.
CREATE OR REPLACE FUNCTION ledger_extend_hold(
    p_organization_id uuid,
    p_id uuid,
    p_expires_at timestamptz
) RETURNS TABLE (status text, hold holds) LANGUAGE plpgsql AS $$
DECLARE
    v_result record := ledger_move_expiry(p_organization_id, p_id, p_expires_at);
BEGIN
    status := v_result.status;
    hold := v_result.hold;
    RETURN NEXT;
END
$$;

-- Releases all active holds; see ledger_release_all.
CREATE OR REPLACE FUNCTION ledger_end_holds(
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

-- Releases all active holds of an organization in one pass, takes them out of its budgets, and returns how many.
CREATE OR REPLACE FUNCTION ledger_release_all(
    p_organization_id uuid
) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN ledger_end_holds(p_organization_id);
END
$$;
