-- Auto-recharge: usage and holds that leave too little arm an attempt.

DROP FUNCTION IF EXISTS ledger_arm(accounts, uuid, numeric, timestamptz);
DROP FUNCTION IF EXISTS ledger_end_wait(uuid);

-- Whether a recharge attempt with this state is live: it has not ended; an organization has at most one.
-- PostgreSQL inlines it, so that the index of live attempts serves it.
CREATE OR REPLACE FUNCTION recharge_attempt_is_live(
    p_state text
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT p_state IN ('armed', 'charging', 'processing', 'requires_action', 'unknown')
$$;

-- The attempt of an organization with an id, if there is one.
CREATE OR REPLACE FUNCTION recharge_attempt(
    p_organization_id uuid,
    p_id uuid
) RETURNS SETOF recharge_attempts LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT r.*
    FROM recharge_attempts AS r
    WHERE r.organization_id = p_organization_id AND r.id = p_id;
END
$$;

-- Whether auto-recharge waits for the next usage after a row: it does once credits are taken back. An adjustment
-- counts as such where it alone crosses the threshold.
CREATE OR REPLACE FUNCTION ledger_recharge_waits(
    p_account accounts,
    p_row credit_transactions
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN p_row.type IN ('usage', 'hold_capture') THEN FALSE
        WHEN p_row.type IN ('refund', 'dispute', 'void', 'expiration') THEN TRUE
        WHEN
            p_row.amount < 0
            AND p_account.balance - p_account.held < p_account.recharge_below
            AND p_account.balance - p_account.held - p_row.amount >= p_account.recharge_below
            THEN TRUE
        ELSE p_account.recharge_waits
    END
$$;

-- The transaction that arms a recharge, after a row: usage that leaves less than the threshold, until later usage
-- leaves more or credits are taken back.
CREATE OR REPLACE FUNCTION ledger_arming_id(
    p_account accounts,
    p_row credit_transactions,
    p_id uuid
) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN p_account.recharge_waits THEN NULL
        WHEN p_row.type NOT IN ('usage', 'hold_capture') THEN p_id
        WHEN p_account.balance - p_account.held < p_account.recharge_below THEN p_row.id
    END
$$;

-- Ends the wait of auto-recharge that began when credits were taken back: there was usage or a hold since.
CREATE OR REPLACE FUNCTION ledger_end_recharge_wait(
    p_organization_id uuid
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE accounts AS a
    SET recharge_waits = FALSE
    WHERE a.organization_id = p_organization_id AND a.recharge_waits;
END
$$;

-- Wakes the workers that charge: an attempt is taken as soon as the transaction that armed it has committed. It is a
-- call and no trigger: on a cluster, nobody hears a NOTIFY of a shard.
CREATE OR REPLACE FUNCTION wake_recharge_workers() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('prepaid_recharge', '');
END
$$;

-- Arms a recharge where what is spendable (balance less held) is below the threshold, or where `p_needed` was
-- refused and a recharge would help: what is spendable is below the level that the rule charges up to. While an
-- attempt is live there is no second one; one that is only armed adopts a larger `needed`.
--
-- `p_id` is the transaction or hold that armed it. A refusal has none: its caller may try again.
CREATE OR REPLACE FUNCTION ledger_arm_recharge(
    p_account accounts,
    p_id uuid,
    p_needed numeric,
    p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_spendable numeric := ledger_spendable(p_account);
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
    WHERE recharge_attempt_is_live(state)
    DO NOTHING;
    IF FOUND THEN
        PERFORM wake_recharge_workers();
    ELSIF p_needed IS NOT NULL THEN
        UPDATE recharge_attempts AS r
        SET needed = p_needed
        WHERE
            r.organization_id = p_account.organization_id
            AND r.state = 'armed'
            AND (r.needed < p_needed) IS NOT FALSE;
    END IF;
END
$$;
