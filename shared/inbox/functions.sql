-- Events that were ignored because no organization had a Stripe id wait for it; so do dead letters of paid invoices.

-- Reopens the events that wait for one of these ids, which this transaction binds. The exclusive advisory locks exclude
-- those of events that are being ignored (lock_waiting): each statement of a function sees what was committed before
-- it, so that the updates see every event that was settled before the locks were granted. One round trip for all.
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

    -- A paid invoice of a customer whom nobody has is dead, so that a person learns of it. They are found by their cause.
    IF EXISTS (SELECT FROM unnest(p_stripe_ids) AS u (id) WHERE u.id LIKE 'cus%') THEN
        UPDATE stripe_events
        SET
            state = 'received',
            reason = NULL,
            error_class = NULL,
            error_trace = NULL,
            settled_at = NULL,
            waits_for = NULL,
            attempts = 0,
            available_at = now(),
            lane = 'shared',
            leases_lost = 0
        WHERE
            state = 'dead'
            AND type = 'invoice.paid'
            AND error_class = 'UnknownCustomerError'
            AND waits_for = any(p_stripe_ids);
    END IF;
END
$$;
