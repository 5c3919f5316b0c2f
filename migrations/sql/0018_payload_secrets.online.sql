-- What the worker has still to take client secrets out of.
CREATE INDEX CONCURRENTLY IF NOT EXISTS stripe_events_with_secrets ON stripe_events (received_at) WHERE NOT secrets_removed;

-- What the worker forgets next.
CREATE INDEX CONCURRENTLY IF NOT EXISTS stripe_events_to_forget ON stripe_events (settled_at)
WHERE state IN ('applied', 'ignored', 'discarded') AND waits_for IS NULL AND payload_forgotten_at IS NULL;
