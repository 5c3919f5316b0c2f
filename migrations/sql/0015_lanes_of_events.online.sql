-- What a claim reads: the due events of a lane, oldest first.
CREATE INDEX CONCURRENTLY IF NOT EXISTS stripe_events_due ON stripe_events (lane, available_at)
WHERE state IN ('received', 'retrying');

-- What a claim reads while a type is paused: one look-up for each other type that waits.
CREATE INDEX CONCURRENTLY IF NOT EXISTS stripe_events_due_by_type ON stripe_events (lane, type, available_at)
WHERE state IN ('received', 'retrying');

-- What a list or a replay of events in one of the rarer states reads, oldest or newest first.
CREATE INDEX CONCURRENTLY IF NOT EXISTS stripe_events_in_state ON stripe_events (state, received_at, id)
WHERE state IN ('dead', 'discarded', 'quarantined', 'retrying');

DROP INDEX CONCURRENTLY IF EXISTS stripe_events_claimable;

DROP INDEX CONCURRENTLY IF EXISTS stripe_events_by_state;

ALTER TABLE stripe_events VALIDATE CONSTRAINT stripe_events_lane_known;
