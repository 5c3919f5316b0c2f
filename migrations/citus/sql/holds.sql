-- Holds on a cluster: one remote statement for each change.

-- Changes holds of an organization on its node. `p_act` is what is done with `p_hold`, a row of `holds` with the columns
-- that it needs: `reserve`, `end` (in its status), `move_expiry` or `end_all`. The results are those of the functions
-- that it calls; `effects`, what they announced.
CREATE OR REPLACE FUNCTION ledger_hold_on_node(
    p_organization_id uuid,
    p_act text,
    p_hold jsonb
) RETURNS TABLE (
    status text,
    hold jsonb,
    balance numeric,
    held numeric,
    available numeric,
    budget jsonb,
    released bigint,
    effects jsonb
) LANGUAGE plpgsql AS $$
DECLARE
    v_hold holds := jsonb_populate_record(NULL::holds, p_hold);
    v_result record;
BEGIN
    v_hold.organization_id := p_organization_id;
    PERFORM ledger_begin_on_node();
    IF p_act = 'reserve' THEN
        v_result := ledger_reserve(v_hold);
        balance := v_result.balance;
        held := v_result.held;
        available := v_result.available;
        budget := v_result.budget;
    ELSIF p_act = 'end' THEN
        v_result := ledger_end_hold(p_organization_id, v_hold.id, v_hold.status);
    ELSIF p_act = 'move_expiry' THEN
        v_result := ledger_move_expiry(p_organization_id, v_hold.id, v_hold.expires_at);
    ELSE
        released := ledger_end_holds(p_organization_id);
    END IF;
    IF released IS NULL THEN
        status := v_result.status;
        hold := to_jsonb(v_result.hold);
    END IF;
    effects := ledger_end_on_node();
    RETURN NEXT;
END
$$;

-- Changes holds from the coordinator, and does there what the change announced.
CREATE OR REPLACE FUNCTION ledger_delegate_hold(
    p_organization_id uuid,
    p_act text,
    p_hold jsonb,
    OUT status text,
    OUT hold holds,
    OUT balance numeric,
    OUT held numeric,
    OUT available numeric,
    OUT budget jsonb,
    OUT released bigint
) LANGUAGE plpgsql AS $$
DECLARE
    v_row record;
BEGIN
    EXECUTE 'SELECT * FROM ledger_hold_on_node($1, $2, $3)' INTO v_row
    USING p_organization_id, p_act, p_hold;
    PERFORM ledger_take_effect(v_row.effects);
    status := v_row.status;
    hold := jsonb_populate_record(NULL::holds, v_row.hold);
    balance := v_row.balance;
    held := v_row.held;
    available := v_row.available;
    budget := v_row.budget;
    released := v_row.released;
END
$$;

-- Reserves an amount for a time: see the function that it replaces.
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
    v_hold holds := ledger_new_hold(
        p_organization_id, p_id, p_amount, p_expires_at, p_key, p_digest, p_description, p_user_id, p_category,
        p_metadata
    );
    v_result record := ledger_delegate_hold(p_organization_id, 'reserve', to_jsonb(v_hold));
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

-- Ends a hold: see the function that it replaces.
CREATE OR REPLACE FUNCTION ledger_release(
    p_organization_id uuid,
    p_id uuid,
    p_status text DEFAULT 'released'
) RETURNS TABLE (status text, hold holds) LANGUAGE plpgsql AS $$
DECLARE
    v_result record := ledger_delegate_hold(
        p_organization_id, 'end', jsonb_build_object('id', p_id, 'status', p_status)
    );
BEGIN
    status := v_result.status;
    hold := v_result.hold;
    RETURN NEXT;
END
$$;

-- Moves the expiry of a hold: see the function that it replaces.
CREATE OR REPLACE FUNCTION ledger_extend_hold(
    p_organization_id uuid,
    p_id uuid,
    p_expires_at timestamptz
) RETURNS TABLE (status text, hold holds) LANGUAGE plpgsql AS $$
DECLARE
    v_result record := ledger_delegate_hold(
        p_organization_id, 'move_expiry', jsonb_build_object('id', p_id, 'expires_at', p_expires_at)
    );
BEGIN
    status := v_result.status;
    hold := v_result.hold;
    RETURN NEXT;
END
$$;

-- Releases all active holds of an organization: see the function that it replaces.
CREATE OR REPLACE FUNCTION ledger_release_all(
    p_organization_id uuid
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_result record := ledger_delegate_hold(p_organization_id, 'end_all', '{}');
BEGIN
    RETURN v_result.released;
END
$$;
