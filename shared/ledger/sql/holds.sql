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

-- Opens a hold that is requested, after what is due has expired; see ledger_hold.
CREATE OR REPLACE FUNCTION ledger_reserve(
    p_hold holds,
    OUT status text,
    OUT hold holds,
    OUT balance numeric,
    OUT held numeric,
    OUT available numeric,
    OUT budget jsonb
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_account accounts;
    v_now timestamptz;
    v_changes ledger_budget_change [];
BEGIN
    PERFORM ledger_post_organization(p_hold.organization_id, '{}');  -- what is due expires first
    SELECT a.* INTO v_account
    FROM accounts AS a
    WHERE a.organization_id = p_hold.organization_id
    FOR UPDATE;
    v_now := greatest(clock_timestamp(), v_account.updated_at);
    v_account.balance := v_account.balance - v_account.expired;
    IF v_account.budgets > 0 THEN
        v_changes := ledger_budget_changes(
            p_hold.organization_id, ARRAY[ledger_hold_item(p_hold, p_hold.amount)], v_now
        );
    END IF;

    SELECT h.* INTO hold
    FROM holds AS h
    WHERE h.organization_id = p_hold.organization_id AND h.idempotency_key = p_hold.idempotency_key;
    status := CASE
        WHEN v_account.organization_id IS NULL THEN 'unknown_organization'
        WHEN hold.request_digest = p_hold.request_digest THEN 'replayed'
        WHEN hold.id IS NOT NULL THEN 'conflict'
        WHEN v_account.closed_at IS NOT NULL THEN 'closed'
        WHEN ledger_budget_refusal(v_changes) IS NOT NULL THEN 'budget_exceeded'
        WHEN ledger_exceeds_limit(v_account, p_hold.amount) THEN 'insufficient'
        ELSE 'posted'
    END;
    IF status = 'posted' THEN
        hold := ledger_open_hold(v_account, p_hold, v_now);
        PERFORM ledger_count_budgets(p_hold.organization_id, v_changes, v_now);
        v_account.held := v_account.held + p_hold.amount;
        PERFORM ledger_arm_recharge(v_account, p_hold.id, NULL, v_now);
    ELSIF status = 'budget_exceeded' THEN
        budget := ledger_budget_refusal(v_changes);
    ELSIF status = 'insufficient' THEN
        PERFORM ledger_end_recharge_wait(p_hold.organization_id);
        PERFORM ledger_arm_recharge(v_account, NULL, p_hold.amount, v_now);
    END IF;
    balance := v_account.balance;
    held := v_account.held;
    available := ledger_available(v_account);
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
DECLARE
    v_result record := ledger_reserve(
        ledger_new_hold(
            p_organization_id, p_id, p_amount, p_expires_at, p_key, p_digest, p_description, p_user_id, p_category,
            p_metadata
        )
    );
BEGIN
    status := v_result.status;
    hold := v_result.hold;
    balance := v_result.balance;
    held := v_result.held;
    available := v_result.available;
    budget := v_result.budget;
    RETURN NEXT;
END
$$;
