-- Holds carry the fields of the usage that they are for, are captured in parts, and can be extended.

ALTER TABLE holds
ADD COLUMN user_id text,
ADD COLUMN category text,
ADD COLUMN metadata jsonb,
-- The row of the capture that closed the hold. NULL for a capture of nothing, and for captures of an earlier
-- release, whose key names the hold.
ADD COLUMN captured_by uuid;

-- A hold in any state may have captures, and a capture of zero has no row.
ALTER TABLE holds
DROP CONSTRAINT holds_captured_when_captured,
ADD CONSTRAINT holds_captured_not_negative CHECK (captured_amount >= 0) NOT VALID,
ADD CONSTRAINT holds_captured_by_when_captured CHECK (captured_by IS NULL OR status = 'captured') NOT VALID;

-- Of a capture: `partial` leaves the hold open; `past_limit` posts what exceeds the hold whatever the balance.
ALTER TYPE ledger_posting
ADD ATTRIBUTE partial boolean,
ADD ATTRIBUTE past_limit boolean;

-- Their successors have more parameters, with defaults: the last release calls them as before.
DROP FUNCTION IF EXISTS ledger_hold(uuid, uuid, numeric, timestamptz, text, bytea, text);

DROP FUNCTION IF EXISTS ledger_release(uuid, uuid);
