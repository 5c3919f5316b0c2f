-- The recharge attempts that ended within a minute.
CREATE INDEX CONCURRENTLY IF NOT EXISTS recharge_attempts_by_end ON recharge_attempts (settled_at)
WHERE settled_at IS NOT NULL;
