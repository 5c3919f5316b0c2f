-- The open disputes of one organization: a purchase, and the end of an inquiry, ask whether there is one.
CREATE INDEX CONCURRENTLY IF NOT EXISTS stripe_disputes_open ON stripe_disputes (organization_id)
WHERE closed_at IS NULL;
