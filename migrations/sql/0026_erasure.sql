-- When an organization's personal data outside the ledger was erased. From then on, no event brings it back.
ALTER TABLE accounts ADD COLUMN erased_at timestamptz;
