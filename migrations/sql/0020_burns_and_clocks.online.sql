-- A segment's grant references the same account. Without this second check for each segment, a debit across many
-- grants is cheaper, and no segment can be without an account.
ALTER TABLE burn_segments DROP CONSTRAINT IF EXISTS burn_segments_organization_id_fkey;

-- The clock of auto-recharge looks at those whose wait has just ended.
CREATE INDEX CONCURRENTLY IF NOT EXISTS auto_recharges_waiting ON auto_recharges (not_before)
WHERE state = 'active' AND not_before IS NOT NULL;
