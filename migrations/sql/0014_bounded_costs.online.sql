ALTER TABLE accounts VALIDATE CONSTRAINT accounts_expired_not_negative;

-- Where an organization is thought to have few rows, an index that begins with it seems as good for any look-up
-- among them, and reads them all. One that is for a single column says so: it serves only what names that column.
CREATE INDEX CONCURRENTLY IF NOT EXISTS burn_segments_of_grant ON burn_segments (organization_id, grant_id, lower)
WHERE grant_id IS NOT NULL;

DROP INDEX CONCURRENTLY IF EXISTS burn_segments_by_grant;

CREATE INDEX CONCURRENTLY IF NOT EXISTS credit_grants_in_seq ON credit_grants (organization_id, seq)
WHERE seq IS NOT NULL;

DROP INDEX CONCURRENTLY IF EXISTS credit_grants_by_seq;

-- Keys are unique as before; look-ups by `seq` and by `id` do not go through these indexes.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS holds_by_key ON holds (organization_id, idempotency_key)
WHERE idempotency_key IS NOT NULL;

ALTER TABLE holds DROP CONSTRAINT IF EXISTS holds_key_once;

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS credit_transactions_by_key
ON credit_transactions (organization_id, idempotency_key)
WHERE idempotency_key IS NOT NULL;

ALTER TABLE credit_transactions DROP CONSTRAINT IF EXISTS credit_transactions_key_once;
