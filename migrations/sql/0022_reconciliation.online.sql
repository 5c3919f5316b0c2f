-- Reconciliation reads the credited payments of a period, whichever organization they are of.
CREATE INDEX CONCURRENTLY IF NOT EXISTS stripe_payments_by_age ON stripe_payments (created_at, payment_intent_id);
