-- Some clients know an organization's subscription by a number.
ALTER TABLE organizations ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY;

-- Pages of an organization's recharge attempts, newest first.
CREATE INDEX recharge_attempts_by_age ON recharge_attempts (organization_id, created_at DESC, id DESC);
