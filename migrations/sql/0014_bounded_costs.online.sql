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

-- Lists of what is open, and of holds in one state.
CREATE INDEX CONCURRENTLY IF NOT EXISTS credit_grants_open ON credit_grants (organization_id, seq) WHERE NOT spent;

CREATE INDEX CONCURRENTLY IF NOT EXISTS holds_by_state ON holds (organization_id, status, id) WHERE status IS NOT NULL;

-- Look-ups that read the whole table.
CREATE INDEX CONCURRENTLY IF NOT EXISTS stripe_payments_by_charge ON stripe_payments (charge_id) WHERE charge_id IS NOT NULL;

CREATE INDEX CONCURRENTLY IF NOT EXISTS payment_methods_by_organization ON payment_methods (organization_id);

CREATE INDEX CONCURRENTLY IF NOT EXISTS recharge_attempts_by_id ON recharge_attempts (id) WHERE id IS NOT NULL;

CREATE INDEX CONCURRENTLY IF NOT EXISTS recharge_attempts_declined ON recharge_attempts (organization_id, settled_at)
WHERE state = 'failed';

CREATE INDEX CONCURRENTLY IF NOT EXISTS purchases_open ON purchases (organization_id, created_at) WHERE state = 'open';
