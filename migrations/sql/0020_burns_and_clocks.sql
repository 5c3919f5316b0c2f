-- Holds that have expired are closed in bounded rounds, as grants are.
DROP FUNCTION IF EXISTS ledger_expire_holds(uuid, timestamptz);
