-- Where the shards of a cluster are.

-- The shards of the ledger, each with the hashes of its organizations and its node.
CREATE OR REPLACE FUNCTION ledger_shards() RETURNS TABLE (
    hash_min integer,
    hash_max integer,
    node text
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT
        s.shardminvalue::integer,
        s.shardmaxvalue::integer,
        n.nodename || ':' || n.nodeport
    FROM pg_dist_shard AS s
    INNER JOIN pg_dist_placement AS p ON s.shardid = p.shardid
    INNER JOIN pg_dist_node AS n ON p.groupid = n.groupid AND n.noderole = 'primary'
    WHERE s.logicalrelid = 'accounts'::regclass;
END
$$;

-- It looks on all nodes, and Citus needs the arguments to plan that: a plan without them is an error.
ALTER FUNCTION payment_attempts(text [], uuid [], uuid []) RESET plan_cache_mode;
