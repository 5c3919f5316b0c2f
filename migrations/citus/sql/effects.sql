-- What the nodes of a cluster do not do themselves: a node writes to no table of the coordinator and notifies nobody.
-- What a delegated function announces comes back with its results, and the coordinator announces it.

-- Collects what a delegated function announces and wakes, until its results go back: a setting of the transaction.
CREATE OR REPLACE FUNCTION ledger_remember(
    p_effect jsonb
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config(
        'prepaid.effects',
        (coalesce(nullif(current_setting('prepaid.effects', TRUE), ''), '[]')::jsonb || p_effect)::text,
        TRUE
    );
END
$$;

-- Announces a message where the outbound messages are, and remembers it elsewhere.
CREATE OR REPLACE FUNCTION announce(
    p_organization_id uuid,
    p_id uuid,
    p_type text,
    p_data jsonb,
    p_at timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF ledger_is_on_a_node() THEN
        PERFORM ledger_remember(
            jsonb_build_object(
                'organization_id', p_organization_id, 'id', p_id, 'type', p_type, 'data', p_data, 'at', p_at
            )
        );
    ELSE
        PERFORM write_messages(p_organization_id, p_id, p_type, p_data, p_at);
    END IF;
END
$$;

-- Wakes the workers that charge, from the coordinator.
CREATE OR REPLACE FUNCTION wake_recharge_workers() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF ledger_is_on_a_node() THEN
        PERFORM ledger_remember('{"wake": true}');
    ELSE
        PERFORM pg_notify('prepaid_recharge', '');
    END IF;
END
$$;

-- Whether a delegated function is executed now: between ledger_begin_on_node and ledger_end_on_node.
CREATE OR REPLACE FUNCTION ledger_is_on_a_node() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT current_setting('prepaid.on_a_node', TRUE) = 'on'
$$;

-- Begins the work of a delegated function: from now on, its transaction remembers what it would announce.
CREATE OR REPLACE FUNCTION ledger_begin_on_node() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('prepaid.on_a_node', 'on', TRUE);
    PERFORM set_config('prepaid.effects', '', TRUE);
END
$$;

-- Ends the work of a delegated function, and returns what it would have announced.
CREATE OR REPLACE FUNCTION ledger_end_on_node() RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('prepaid.on_a_node', '', TRUE);
    RETURN coalesce(nullif(current_setting('prepaid.effects', TRUE), ''), '[]')::jsonb;
END
$$;

-- Does what a delegated function announced and woke, on the coordinator.
CREATE OR REPLACE FUNCTION ledger_take_effect(
    p_effects jsonb
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM write_messages(e.organization_id, e.id, e.type, e.data, e.at)
    FROM jsonb_to_recordset(p_effects) AS e (
        organization_id uuid, id uuid, type text, data jsonb, at timestamptz, wake boolean
    )
    WHERE e.type IS NOT NULL;
    IF p_effects @> '[{"wake": true}]' THEN
        PERFORM pg_notify('prepaid_recharge', '');
    END IF;
END
$$;
