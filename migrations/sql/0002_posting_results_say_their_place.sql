-- A result of ledger_post says which posting it is of: what a function returns cannot be replaced in place.

DROP FUNCTION IF EXISTS ledger_post(jsonb);
