-- What a statement costs depends on what it returns, and not on how much there is.

ALTER TABLE accounts
-- Of `balance`: what is left of the grants that had expired by `expired_through` and whose expiration is not
-- posted yet. Nobody can spend it.
ADD COLUMN expired numeric(38, 9) NOT NULL DEFAULT 0,
ADD COLUMN expired_through timestamptz NOT NULL DEFAULT '-infinity',
ADD CONSTRAINT accounts_expired_not_negative CHECK (expired >= 0) NOT VALID;

-- Each grant leaves entries in its indexes that a burn walks over until they are vacuumed.
ALTER TABLE credit_grants SET (autovacuum_vacuum_scale_factor = 0.01);

ALTER TABLE burn_segments SET (autovacuum_vacuum_scale_factor = 0.01);

DROP FUNCTION IF EXISTS ledger_post_organization(uuid, ledger_posting []);

DROP FUNCTION IF EXISTS ledger_put_back(uuid, uuid, numeric);

DROP FUNCTION IF EXISTS ledger_take_from_payment(uuid, text, numeric);

DROP FUNCTION IF EXISTS ledger_expirations(uuid, timestamptz);
