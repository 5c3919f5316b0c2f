-- A suspension that only a person ends outlasts being turned off: why, and in words for a person. NULL: none
-- waits. Turned on again, it is suspended for that.
ALTER TABLE auto_recharges
ADD COLUMN held_reason text,
ADD COLUMN held_detail text,
ADD CONSTRAINT auto_recharges_held_reason_known CHECK (
    held_reason IN ('dispute', 'fraud_warning', 'charge_refused', 'customer_deleted', 'operator')
);
