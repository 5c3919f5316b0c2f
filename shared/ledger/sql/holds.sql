-- Holds: reservations of credits for a time.

-- Captures a hold: uses the reserved credits, or a part. `held` is the amount of the hold, which is released.
CREATE OR REPLACE FUNCTION ledger_capture_hold(
    p_account accounts,
    p_posting ledger_posting,
    p_now timestamptz,
    OUT status text,
    OUT held numeric
) LANGUAGE plpgsql AS $$
DECLARE
    v_used numeric := -p_posting.amount;
    v_hold holds;
BEGIN
    SELECT h.* INTO v_hold
    FROM holds AS h
    WHERE h.organization_id = p_account.organization_id AND h.id = p_posting.hold_id;
    held := v_hold.amount;
    status := CASE
        WHEN v_hold.id IS NULL THEN 'unknown_hold'
        WHEN v_hold.status <> 'active' OR v_hold.expires_at <= p_now THEN 'hold_closed'
        WHEN v_used <= v_hold.amount THEN 'posted'
        WHEN p_posting.may_overdraw IS NOT TRUE THEN 'exceeds_hold'
        WHEN ledger_exceeds_limit(p_account, v_used - v_hold.amount) THEN 'insufficient'
        ELSE 'posted'
    END;
    IF status = 'posted' THEN
        UPDATE holds AS h
        SET status = 'captured', captured_amount = v_used, closed_at = p_now
        WHERE h.organization_id = p_account.organization_id AND h.id = v_hold.id;
    END IF;
END
$$;

-- Writes a hold that its account covers. A hold that is already past its expiry expires with the next posting.
CREATE OR REPLACE FUNCTION ledger_open_hold(
    p_account accounts,
    p_id uuid,
    p_amount numeric,
    p_expires_at timestamptz,
    p_key text,
    p_digest bytea,
    p_description text,
    p_now timestamptz
) RETURNS holds LANGUAGE plpgsql AS $$
DECLARE
    v_hold holds;
BEGIN
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
        p_account.organization_id,
        p_id,
        p_amount,
        p_key,
        p_digest,
        greatest(p_expires_at, p_account.expired_through + interval '1 microsecond'),
        p_now,
        p_description
    )
    RETURNING h.* INTO v_hold;
    UPDATE accounts AS a
    SET
        held = p_account.held + p_amount,
        next_due_at = least(p_account.next_due_at, v_hold.expires_at),
        recharge_waits = FALSE,
        updated_at = p_now
    WHERE a.organization_id = p_account.organization_id;
    RETURN v_hold;
END
$$;

-- Reserves an amount for a time. The results are those of a posting: `posted`, `replayed`, `conflict`,
-- `insufficient`, `unknown_organization`, `closed`; with the balance, held and available credits afterwards. It
-- arms a recharge as usage does.
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
        WHEN ledger_exceeds_limit(v_account, p_amount) THEN 'insufficient'
        ELSE 'posted'
    END;
    IF status = 'posted' THEN
        hold := ledger_open_hold(
            v_account, p_id, p_amount, p_expires_at, p_key, p_digest, p_description, v_now
        );
        v_account.held := v_account.held + p_amount;
        PERFORM ledger_arm_recharge(v_account, p_id, NULL, v_now);
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

-- Releases a hold. The results: `posted`, `replayed` (released before), `unknown_hold`, `hold_closed` (captured or
-- expired).
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

-- Releases all active holds of an organization in one pass, and returns how many.
CREATE OR REPLACE FUNCTION ledger_release_all(
    p_organization_id uuid
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz;
    v_expired_through timestamptz;
    v_count bigint;
    v_amount numeric;
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
        RETURNING h.amount
    )

    SELECT
        count(*),
        coalesce(sum(r.amount), 0)
    INTO v_count, v_amount
    FROM released AS r;
    UPDATE accounts AS a
    SET
        held = a.held - v_amount,
        next_due_at = ledger_next_due(p_organization_id),
        updated_at = v_now
    WHERE a.organization_id = p_organization_id AND v_count > 0;
    RETURN v_count;
END
$$;
