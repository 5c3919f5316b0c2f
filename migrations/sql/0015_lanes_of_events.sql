-- Events wait in lanes, so that one which waits for a lock, for Stripe or for a worker to die holds up no other.

ALTER TABLE stripe_events
ADD COLUMN lane text NOT NULL DEFAULT 'shared',
-- How many workers in a row let their lease on this event run out: they died, or froze.
ADD COLUMN leases_lost integer NOT NULL DEFAULT 0;

ALTER TABLE stripe_events ADD CONSTRAINT stripe_events_lane_known CHECK (
    lane IN ('shared', 'alone', 'stripe', 'suspect')
) NOT VALID;
