-- What the list of causes reads: a look-up for each type and error class of the dead letters.
CREATE INDEX CONCURRENTLY IF NOT EXISTS stripe_events_dead_by_cause
ON stripe_events (type, error_class, received_at, id)
WHERE state = 'dead';
