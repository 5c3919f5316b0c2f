-- Events wait in lanes, so that one which waits for a lock, for Stripe or for a worker to die holds up no other.

ALTER TABLE stripe_events
ADD COLUMN lane text NOT NULL DEFAULT 'shared',
-- How many workers in a row let their lease on this event run out: they died, or froze.
ADD COLUMN leases_lost integer NOT NULL DEFAULT 0;

ALTER TABLE stripe_events ADD CONSTRAINT stripe_events_lane_known CHECK (
    lane IN ('shared', 'alone', 'stripe', 'suspect')
) NOT VALID;

-- What a claim reads: the due events of a lane, oldest first.
CREATE INDEX stripe_events_due ON stripe_events (lane, available_at)
WHERE state IN ('received', 'retrying');

-- What a claim reads while a type is paused: one look-up for each other type that waits.
CREATE INDEX stripe_events_due_by_type ON stripe_events (lane, type, available_at)
WHERE state IN ('received', 'retrying');

-- What a list or a replay of events in one of the rarer states reads, oldest or newest first.
CREATE INDEX stripe_events_in_state ON stripe_events (state, received_at, id)
WHERE state IN ('dead', 'discarded', 'quarantined', 'retrying');

DROP INDEX stripe_events_claimable;

DROP INDEX stripe_events_by_state;
