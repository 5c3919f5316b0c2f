-- name: lock_waiting
-- Take a shared advisory lock on a Stripe id before an event is ignored because no organization has the id. The
-- transaction that binds the id locks it exclusively (lock_bound), so that one sees the other's writes.
SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0));

-- name: lock_bound
-- Take exclusive advisory locks on the Stripe ids that this transaction binds, before it reopens waiting events.
SELECT pg_advisory_xact_lock(hashtextextended(i.id, 0))
FROM (
    SELECT DISTINCT u.id
    FROM unnest($1::text []) AS u (id)
    ORDER BY u.id
) AS i;

-- name: reopen_waiting
-- Reopen the events that were ignored because no organization had one of these ids.
UPDATE stripe_events
SET
    state = 'received',
    reason = NULL,
    settled_at = NULL,
    waits_for = NULL,
    attempts = 0,
    available_at = now(),
    lane = 'shared',
    leases_lost = 0
WHERE state = 'ignored' AND waits_for = any($1::text []);
