-- Scale-out: run once, on the coordinator, after the schema. Everything of an organization lies on one
-- shard, and a posting is delegated to it. The inbox stays where FOR UPDATE SKIP LOCKED works: here.
SELECT create_reference_table('organizations');
SELECT create_reference_table('webhook_endpoints');

-- The append-only trigger runs on the shards; without the REVOKE of a restricted role it is the only guard.
SET citus.enable_unsafe_triggers TO on;

SELECT create_distributed_table('accounts', 'organization_id');
SELECT create_distributed_table('credit_transactions', 'organization_id', colocate_with => 'accounts');
SELECT create_distributed_table('credit_grants', 'organization_id', colocate_with => 'accounts');
SELECT create_distributed_table('burn_segments', 'organization_id', colocate_with => 'accounts');
SELECT create_distributed_table('holds', 'organization_id', colocate_with => 'accounts');
SELECT create_distributed_table('usage_totals', 'organization_id', colocate_with => 'accounts');
SELECT create_distributed_table('usage_breakdowns', 'organization_id', colocate_with => 'accounts');
SELECT create_distributed_table('recharge_attempts', 'organization_id', colocate_with => 'accounts');
SELECT create_distributed_table('auto_recharges', 'organization_id', colocate_with => 'accounts');
SELECT create_distributed_table('budgets', 'organization_id', colocate_with => 'accounts');
SELECT create_distributed_table('budget_counters', 'organization_id', colocate_with => 'accounts');

SELECT create_distributed_function(
    'ledger_post_organization(uuid, ledger_posting[], integer)',
    'p_organization_id',
    colocate_with => 'accounts'
);

-- Outbound messages stay here too, for the same reason as the inbox. A posting on a shard announces them
-- across: to a table and a function that every node knows.
SELECT citus_add_local_table_to_metadata('outbound_messages');
SELECT create_distributed_function('announce(uuid, uuid, text, jsonb, timestamptz)');
