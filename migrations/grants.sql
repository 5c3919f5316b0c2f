-- What the processes may do, and no more: they read and add to the ledger and to the audit log, and change
-- neither. The role is theirs; migrations run as the owner.
GRANT USAGE ON SCHEMA public TO {role};

GRANT SELECT, INSERT ON
audit_log,
credit_transactions,
finance_closes,
price_assignments,
price_book_versions,
price_discounts,
stripe_invoices
TO {role};

GRANT SELECT, INSERT, UPDATE ON
accounts,
api_keys,
auto_recharges,
burn_segments,
credit_grants,
holds,
invariant_results,
ledger_checkpoints,
ledger_verifications,
organizations,
outbound_messages,
payment_methods,
price_books,
purchases,
recharge_attempts,
stripe_disputes,
stripe_events,
subscriptions,
usage_breakdowns,
usage_totals,
webhook_endpoints
TO {role};

GRANT SELECT, INSERT, DELETE ON api_sessions, metric_samples, price_book_activations TO {role};

GRANT SELECT, INSERT, UPDATE, DELETE ON
budget_counters,
budgets,
console_links,
console_sessions,
event_breakers,
idempotent_requests,
invariant_passes,
reconciliation_findings,
reconciliation_runs,
reconciliation_seen,
replay_batch_organizations,
replay_batches,
stripe_alerts,
stripe_payments,
worker_heartbeats
TO {role};

GRANT SELECT ON alembic_version, charged_methods, schema_functions, system_accounts, trial_balance TO {role};
