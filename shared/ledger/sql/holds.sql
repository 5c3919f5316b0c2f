-- Holds: reservations of credits for a time.

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
