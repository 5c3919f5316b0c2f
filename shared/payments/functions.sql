-- Crediting payments: bound, posted and completed in one round trip.

-- The recharge attempts that payments were opened for, each with the position of its payment, counted from 1: by the
-- ids of organization and attempt, or else by PaymentIntent. An attempt without an amount has not charged.
--
-- A function, because a cluster takes no subquery on a shard that is correlated with the payments. Its plan is made
-- once and goes by index, since it may be made while the table is still empty.
CREATE OR REPLACE FUNCTION payment_attempts(
    p_payments text [],
    p_attempts uuid [],
    p_organizations uuid []
) RETURNS TABLE (
    ordinal bigint,
    organization_id uuid,
    amount_minor bigint,
    currency text,
    amount numeric,
    trigger text
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY
    SELECT DISTINCT ON (f.ordinal)
        f.ordinal,
        f.organization_id,
        f.amount_minor,
        f.currency,
        f.amount,
        f.trigger
    FROM (
        SELECT
            r.ordinal,
            1 AS rank,
            m.*
        FROM unnest(p_attempts, p_organizations) WITH ORDINALITY AS r (attempt_id, organization_id, ordinal)
        INNER JOIN recharge_attempts AS m
            ON r.organization_id = m.organization_id AND r.attempt_id = m.id
        UNION ALL
        SELECT
            r.ordinal,
            2 AS rank,
            m.*
        FROM unnest(p_payments) WITH ORDINALITY AS r (payment_intent_id, ordinal)
        INNER JOIN recharge_attempts AS m
            ON r.payment_intent_id = m.payment_intent_id
    ) AS f
    WHERE f.amount_minor IS NOT NULL
    ORDER BY f.ordinal, f.rank;
END
$$;

-- Binds payments to organizations, each once; returns those that were not bound before. The rows must be sorted:
-- concurrent transactions lock them in this order.
CREATE OR REPLACE FUNCTION bind_payments(p_bindings jsonb) RETURNS TABLE (
    payment_intent_id text,
    organization_id uuid,
    amount_minor bigint,
    currency text,
    credits numeric,
    invoice_id text
) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    INSERT INTO stripe_payments AS p (
        payment_intent_id,
        organization_id,
        amount_minor,
        net_minor,
        currency,
        credits,
        customer_id,
        charge_id,
        invoice_id,
        stripe_account
    )
    SELECT b.*
    FROM jsonb_to_recordset(p_bindings) AS b (
        payment_intent_id text,
        organization_id uuid,
        amount_minor bigint,
        net_minor bigint,
        currency text,
        credits numeric,
        customer_id text,
        charge_id text,
        invoice_id text,
        stripe_account text
    )
    ON CONFLICT ON CONSTRAINT stripe_payments_pkey DO NOTHING
    RETURNING
        p.payment_intent_id,
        p.organization_id,
        p.amount_minor,
        p.currency,
        p.credits,
        p.invoice_id;
END
$$;

-- Closes the purchases of sessions and payments. Paid ones stay paid. A purchase is looked up by either index.
CREATE OR REPLACE FUNCTION close_purchases(
    p_sessions text [],
    p_purchases uuid [],
    p_payments text [],
    p_states text []
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE purchases AS p
    SET
        state = c.state,
        payment_intent_id = coalesce(c.payment_intent_id, p.payment_intent_id),
        settled_at = now()
    FROM unnest(p_sessions, p_purchases, p_payments, p_states) AS c (
        checkout_session_id, purchase_id, payment_intent_id, state
    )
    WHERE
        (p.checkout_session_id = c.checkout_session_id OR p.id = c.purchase_id)
        AND p.state <> 'paid';
END
$$;

-- Closes as paid those purchases whose postings, by place, are on the ledger.
CREATE OR REPLACE FUNCTION close_paid_purchases(p_purchases jsonb, p_places integer []) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF jsonb_array_length(p_purchases) = 0 THEN
        RETURN;
    END IF;
    PERFORM close_purchases(
        array_agg(c.checkout_session_id),
        array_agg(c.purchase_id),
        array_agg(c.payment_intent_id),
        array_agg('paid'::text)
    )
    FROM jsonb_to_recordset(p_purchases) AS c (
        place integer, checkout_session_id text, purchase_id uuid, payment_intent_id text
    )
    WHERE c.place = any(p_places)
    HAVING count(*) > 0;
END
$$;

-- Announces new purchases, and returns the organizations that they find suspended for a reason, as the rows of
-- credit_payments. Each message gets the balance after its posting. In the order of the ids of the messages, so that two
-- batches with the same ids cannot deadlock.
CREATE OR REPLACE FUNCTION complete_purchases(
    p_messages jsonb,
    p_posted integer [],
    p_balances numeric [],
    p_suspension text
) RETURNS TABLE (
    place integer,
    status text,
    id uuid
) LANGUAGE plpgsql AS $$
DECLARE
    v_message record;
    v_organizations uuid [] := array(
        SELECT DISTINCT m.organization_id
        FROM jsonb_to_recordset(p_messages) AS m (place integer, organization_id uuid)
        WHERE m.place = any(p_posted)
    );
BEGIN
    -- Most often no app has an endpoint, and this look is all that a message costs.
    IF EXISTS (SELECT FROM webhook_endpoints AS e WHERE e.disabled_at IS NULL) THEN
        FOR v_message IN
            SELECT
                m.*,
                p.balance_after
            FROM jsonb_to_recordset(p_messages) AS m (
                place integer, organization_id uuid, id uuid, type text, data jsonb, at timestamptz
            )
            INNER JOIN unnest(p_posted, p_balances) AS p (place, balance_after)
                ON m.place = p.place
            ORDER BY m.id
        LOOP
            PERFORM announce(
                v_message.organization_id,
                v_message.id,
                v_message.type,
                v_message.data || jsonb_build_object('balanceAfter', v_message.balance_after),
                v_message.at
            );
        END LOOP;
    END IF;
    RETURN QUERY
    SELECT
        NULL::integer,
        'suspended',
        r.organization_id
    FROM auto_recharges AS r
    WHERE r.organization_id = any(v_organizations) AND r.state = 'suspended' AND r.reason = p_suspension
    ORDER BY r.organization_id;
END
$$;

-- The payments of postings, by the places of these.
CREATE OR REPLACE FUNCTION payments_at(p_postings jsonb, p_places integer []) RETURNS text [] LANGUAGE plpgsql
IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (
        SELECT coalesce(array_agg(p_postings -> (p.place - 1) ->> 'payment_intent_id'), '{}')
        FROM unnest(p_places) AS p (place)
    );
END
$$;

-- Unbinds payments of which nothing is on the ledger, because their postings were refused. One that another transaction
-- has locked is left: waiting for it, after the accounts, might never end.
CREATE OR REPLACE FUNCTION unbind_payments(p_payments text []) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM stripe_payments AS p
    USING (
        SELECT k.payment_intent_id
        FROM stripe_payments AS k
        WHERE k.payment_intent_id = any(p_payments) AND k.reversals = 0 AND k.invoice_id IS NULL
        FOR UPDATE SKIP LOCKED
    ) AS r
    WHERE p.payment_intent_id = r.payment_intent_id;
END
$$;

-- Binds payments and posts their credits; reopens the events that waited for one of them, closes their purchases, and
-- announces those that are new. Returns the results of ledger_post, then a row without a place for each organization
-- whose purchase ends a suspension for `p_suspension`. A payment whose posting is refused is not bound: what was never
-- credited cannot be taken back.
--
-- The postings assume these bindings. If another transaction has bound one of the payments meanwhile, nothing is posted
-- and nothing is returned: the caller reads the bindings, and calls again without any. `p_locks`: payments that were
-- bound before are locked as well. The locks are taken in one order: payments, accounts, ids of events that wait, each
-- sorted, then purchases. `place` is that of a posting.
CREATE OR REPLACE FUNCTION credit_payments(
    p_bindings jsonb,
    p_postings jsonb,
    p_payments text [],
    p_locks boolean,
    p_purchases jsonb,
    p_messages jsonb,
    p_suspension text
) RETURNS TABLE (
    place integer,
    status text,
    id uuid,
    seq bigint,
    amount numeric,
    balance_after numeric,
    created_at timestamptz,
    held numeric,
    available numeric,
    budget jsonb
) LANGUAGE plpgsql AS $$
DECLARE
    v_bound bigint;
    v_credited integer [] := '{}';
    v_refused integer [] := '{}';
    v_posted integer [] := '{}';
    v_balances numeric [] := '{}';
BEGIN
    SELECT count(*) INTO v_bound FROM bind_payments(p_bindings);
    IF v_bound < jsonb_array_length(p_bindings) THEN
        RETURN;
    END IF;
    IF p_locks THEN
        PERFORM FROM stripe_payments AS p
        WHERE p.payment_intent_id = any(p_payments)
        ORDER BY p.payment_intent_id COLLATE "C"
        FOR UPDATE;
    END IF;

    FOR place, status, id, seq, amount, balance_after, created_at, held, available, budget IN
        SELECT r.* FROM ledger_post(p_postings) AS r
    LOOP
        IF status IN ('posted', 'replayed') THEN
            v_credited := v_credited || place;
        ELSIF status <> 'conflict' THEN
            v_refused := v_refused || place;
        END IF;
        IF status = 'posted' THEN
            v_posted := v_posted || place;
            v_balances := v_balances || balance_after;
        END IF;
        RETURN NEXT;
    END LOOP;

    IF v_refused <> '{}' THEN
        PERFORM unbind_payments(payments_at(p_postings, v_refused));
    END IF;
    PERFORM reopen_waiting_events(payments_at(p_postings, v_credited));
    PERFORM close_paid_purchases(p_purchases, v_credited);
    IF jsonb_array_length(p_messages) > 0 THEN
        -- The columns that these rows lack are NULL.
        FOR place, status, id, seq, amount, balance_after, created_at, held, available, budget IN
            SELECT c.* FROM complete_purchases(p_messages, v_posted, v_balances, p_suspension) AS c
        LOOP
            RETURN NEXT;
        END LOOP;
    END IF;
END
$$;
