-- The only way to create outbound messages, for SQL and Python alike: `announce`.

-- Writes one message for every endpoint that subscribes to its type, in the caller's transaction: rolled back
-- with it, sent after its commit. A repeated id changes nothing. Without such an endpoint it costs one read of
-- a table of a few rows. Top-level numbers of the data lose the trailing zeros of their column's scale.
CREATE OR REPLACE FUNCTION write_messages(
    p_organization_id uuid,
    p_id uuid,
    p_type text,
    p_data jsonb,
    p_at timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_data jsonb;
BEGIN
    IF NOT EXISTS (
        SELECT FROM webhook_endpoints AS e
        WHERE e.disabled_at IS NULL AND (e.types = '{}' OR p_type = any(e.types))
    ) THEN
        RETURN;
    END IF;

    SELECT jsonb_object_agg(
        f.name,
        CASE jsonb_typeof(f.value)
            WHEN 'number' THEN to_jsonb(trim_scale(f.value::numeric))
            ELSE f.value
        END
    )
    INTO v_data
    FROM jsonb_each(p_data) AS f (name, value);
    v_data := coalesce(v_data, '{}') || jsonb_build_object('organizationId', p_organization_id);

    INSERT INTO outbound_messages (id, endpoint_id, organization_id, type, payload)
    SELECT
        p_id,
        e.id,
        p_organization_id,
        p_type,
        format(
            '{"type": %s, "timestamp": "%s", "data": %s}',
            to_json(p_type),
            to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            v_data
        )
    FROM webhook_endpoints AS e
    WHERE e.disabled_at IS NULL AND (e.types = '{}' OR p_type = any(e.types))
    ORDER BY e.id
    ON CONFLICT DO NOTHING;
END
$$;

-- Announces a message: see write_messages. On a cluster, another function stands in its place.
CREATE OR REPLACE FUNCTION announce(
    p_organization_id uuid,
    p_id uuid,
    p_type text,
    p_data jsonb,
    p_at timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM write_messages(p_organization_id, p_id, p_type, p_data, p_at);
END
$$;
