-- The delivered messages that a worker clears next.
CREATE INDEX CONCURRENTLY IF NOT EXISTS outbound_messages_delivered ON outbound_messages (settled_at)
WHERE state = 'delivered' AND payload <> '{}';

-- The ended recharge attempts whose details a worker clears next.
CREATE INDEX CONCURRENTLY IF NOT EXISTS recharge_attempts_detailed ON recharge_attempts (settled_at)
WHERE settled_at IS NOT NULL AND detail IS NOT NULL;
