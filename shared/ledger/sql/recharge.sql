-- Auto-recharge: usage and holds that leave too little arm an attempt.

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
