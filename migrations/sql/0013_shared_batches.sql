-- A batch that many organizations share waits for none of them: ledger_post has limits as parameters of its own.
-- With the old function beside it, a call without them would be ambiguous.
DROP FUNCTION IF EXISTS ledger_post(jsonb);
