-- Some clients know an organization's subscription by a number.
ALTER TABLE organizations ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY;

-- Who has an Idempotency-Key now: a try that comes back late ends nobody else's.
ALTER TABLE idempotent_requests ADD COLUMN token uuid;

-- What an organization's charges are made with: the default on file, else the one that was heard of last.
CREATE VIEW charged_methods AS
SELECT DISTINCT ON (organization_id) *
FROM payment_methods
WHERE detached_at IS NULL AND mandate_active
ORDER BY organization_id, is_default DESC, as_of DESC, id;

-- Pages of an organization's recharge attempts, newest first.
CREATE INDEX recharge_attempts_by_age ON recharge_attempts (organization_id, created_at DESC, id DESC);
