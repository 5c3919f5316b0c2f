-- Events that were ignored because no organization had a Stripe id wait for it.

-- Reopens the events that wait for one of these ids, which this transaction binds. The exclusive advisory locks exclude
-- those of events that are being ignored (lock_waiting): each statement of a function sees what was committed before
-- it, so that the update sees every event that was ignored before the locks were granted. One round trip for both.
CREATE OR REPLACE FUNCTION reopen_waiting_events(p_stripe_ids text []) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(i.id, 0))
    FROM (
        SELECT DISTINCT u.id
        FROM unnest(p_stripe_ids) AS u (id)
        ORDER BY u.id
    ) AS i;

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
    WHERE state = 'ignored' AND waits_for = any(p_stripe_ids);
END
$$;
