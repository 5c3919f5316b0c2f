ALTER TABLE organizations VALIDATE CONSTRAINT organizations_id_not_nil;

-- What `prepaid audit list` reads.
CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_log_by_age ON audit_log (at DESC, id DESC);

CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_log_by_organization ON audit_log (organization_id, at DESC, id DESC);

CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_log_by_actor ON audit_log (actor, at DESC, id DESC);

-- What the daily limits of top-ups count.
CREATE INDEX CONCURRENTLY IF NOT EXISTS recharge_attempts_top_ups ON recharge_attempts (organization_id, created_at)
WHERE trigger = 'top_up' AND state NOT IN ('failed', 'canceled');

CREATE INDEX CONCURRENTLY IF NOT EXISTS recharge_attempts_top_ups_by_key ON recharge_attempts (key_id, created_at)
WHERE trigger = 'top_up' AND state NOT IN ('failed', 'canceled');
