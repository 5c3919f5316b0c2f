-- What a statement costs depends on what it returns, and not on how much there is.

ALTER TABLE accounts
-- Of `balance`: what is left of the grants that had expired by `expired_through` and whose expiration is not
-- posted yet. Nobody can spend it.
ADD COLUMN expired numeric(38, 9) NOT NULL DEFAULT 0,
ADD COLUMN expired_through timestamptz NOT NULL DEFAULT '-infinity',
ADD CONSTRAINT accounts_expired_not_negative CHECK (expired >= 0);

-- Each grant leaves entries in its indexes that a burn walks over until they are vacuumed.
ALTER TABLE credit_grants SET (autovacuum_vacuum_scale_factor = 0.01);

ALTER TABLE burn_segments SET (autovacuum_vacuum_scale_factor = 0.01);

DROP FUNCTION IF EXISTS ledger_post_organization(uuid, ledger_posting []);

DROP FUNCTION IF EXISTS ledger_put_back(uuid, uuid, numeric);

DROP FUNCTION IF EXISTS ledger_take_from_payment(uuid, text, numeric);

DROP FUNCTION IF EXISTS ledger_expirations(uuid, timestamptz);

-- Where an organization is thought to have few rows, an index that begins with it seems as good for any look-up
-- among them, and reads them all. One that is for a single column says so: it serves only what names that column.
DROP INDEX burn_segments_by_grant;

CREATE INDEX burn_segments_by_grant ON burn_segments (organization_id, grant_id, lower)
WHERE grant_id IS NOT NULL;

DROP INDEX credit_grants_by_seq;

CREATE INDEX credit_grants_by_seq ON credit_grants (organization_id, seq)
WHERE seq IS NOT NULL;

-- Keys are unique as before; look-ups by `seq` and by `id` do not go through this index.
CREATE UNIQUE INDEX holds_by_key ON holds (organization_id, idempotency_key)
WHERE idempotency_key IS NOT NULL;

CREATE UNIQUE INDEX credit_transactions_by_key ON credit_transactions (organization_id, idempotency_key)
WHERE idempotency_key IS NOT NULL;

ALTER TABLE holds DROP CONSTRAINT holds_key_once;

ALTER TABLE credit_transactions DROP CONSTRAINT credit_transactions_key_once;

-- Lists of what is open, and of holds in one state.
CREATE INDEX credit_grants_open ON credit_grants (organization_id, seq) WHERE NOT spent;

CREATE INDEX holds_by_state ON holds (organization_id, status, id) WHERE status IS NOT NULL;

-- Look-ups that read the whole table.
CREATE INDEX stripe_payments_by_charge ON stripe_payments (charge_id) WHERE charge_id IS NOT NULL;

CREATE INDEX payment_methods_by_organization ON payment_methods (organization_id);

CREATE INDEX recharge_attempts_by_id ON recharge_attempts (id) WHERE id IS NOT NULL;

CREATE INDEX recharge_attempts_declined ON recharge_attempts (organization_id, settled_at)
WHERE state = 'failed';

CREATE INDEX purchases_open ON purchases (organization_id, created_at) WHERE state = 'open';
