-- The catalog of Citus and the functions that `prepaid migrate --citus` calls, on one PostgreSQL: they record what a
-- cluster would do, and distribute nothing. What Citus refuses out of order, they refuse too.
CREATE TABLE pg_dist_node (groupid integer, nodename text, nodeport integer, noderole text);

CREATE TABLE pg_dist_partition (logicalrelid regclass, partmethod text, repmodel text);

CREATE TABLE pg_dist_shard (logicalrelid regclass, shardid bigint, shardminvalue text, shardmaxvalue text);

CREATE TABLE pg_dist_placement (shardid bigint, groupid integer);

CREATE TABLE pg_dist_object (
    classid oid, objid oid, distribution_argument_index integer, force_delegation boolean
);

INSERT INTO pg_dist_node VALUES (1, 'node-1', 5432, 'primary');

-- Whether Citus adds local tables that refer to a reference table to the metadata.
CREATE FUNCTION adds_local_tables() RETURNS boolean LANGUAGE sql AS $$
    SELECT
        EXISTS (SELECT FROM pg_dist_node WHERE groupid = 0)
        AND current_setting('citus.enable_local_reference_table_foreign_keys', TRUE) IS DISTINCT FROM 'off'
$$;

CREATE FUNCTION create_reference_table(p_table text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF adds_local_tables() THEN
        INSERT INTO pg_dist_partition
        SELECT DISTINCT c.conrelid, 'n', 's'
        FROM pg_constraint AS c
        WHERE
            c.confrelid = p_table::regclass
            AND c.contype = 'f'
            AND NOT EXISTS (SELECT FROM pg_dist_partition AS t WHERE t.logicalrelid = c.conrelid);
    END IF;
    INSERT INTO pg_dist_partition VALUES (p_table::regclass, 'n', 't');
    INSERT INTO pg_dist_shard VALUES (p_table::regclass, p_table::regclass::oid::bigint);
END
$$;

CREATE FUNCTION create_distributed_table(
    p_table text,
    p_column text,
    colocate_with text DEFAULT 'default'
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    ASSERT p_column = 'organization_id';
    ASSERT p_table = 'accounts' OR colocate_with = 'accounts';
    EXECUTE format('LOCK TABLE %s IN EXCLUSIVE MODE', p_table);
    INSERT INTO pg_dist_partition VALUES (p_table::regclass, 'h', 's');
    INSERT INTO pg_dist_shard VALUES (p_table::regclass, p_table::regclass::oid::bigint, '-2147483648', '2147483647');
    INSERT INTO pg_dist_placement VALUES (p_table::regclass::oid::bigint, 1);
END
$$;

CREATE FUNCTION citus_set_coordinator_host(p_host text, p_port integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO pg_dist_node VALUES (0, p_host, p_port, 'primary')
$$;

CREATE FUNCTION replicate_reference_tables(p_mode text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO pg_dist_placement
    SELECT
        s.shardid,
        0
    FROM pg_dist_shard AS s
    INNER JOIN pg_dist_partition AS t ON s.logicalrelid = t.logicalrelid
    WHERE t.partmethod = 'n'
$$;

CREATE FUNCTION create_distributed_function(
    p_function text,
    p_argument text,
    colocate_with text,
    force_delegation boolean
) RETURNS void LANGUAGE sql AS $$
    UPDATE pg_dist_object
    SET distribution_argument_index = 0, force_delegation = create_distributed_function.force_delegation
    WHERE objid = p_function::regprocedure
$$;

-- Citus sends a function to the nodes when it is created, once its tables are distributed.
CREATE FUNCTION propagate_functions() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'budget_counters'::regclass) THEN
        INSERT INTO pg_dist_object
        SELECT
            c.classid,
            c.objid
        FROM pg_event_trigger_ddl_commands() AS c
        WHERE
            c.command_tag = 'CREATE FUNCTION'
            AND NOT EXISTS (SELECT FROM pg_dist_object AS o WHERE o.objid = c.objid);
    END IF;
END
$$;

CREATE EVENT TRIGGER propagates ON ddl_command_end EXECUTE FUNCTION propagate_functions();

GRANT ALL ON pg_dist_node, pg_dist_partition, pg_dist_shard, pg_dist_placement, pg_dist_object TO PUBLIC;
