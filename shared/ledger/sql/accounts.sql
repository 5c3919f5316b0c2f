-- Accounts: the lock on them, and what they can spend.

DROP FUNCTION IF EXISTS ledger_lock(uuid [], integer);

-- Locks the accounts of these organizations in the order of their ids, so that batches never deadlock. Returns
-- those that another transaction has locked. Without a time limit it waits as long as the session allows and
-- returns none; the limit is for all accounts together, and with 0 it does not wait. The rest of the transaction
-- waits for other rows hardly longer.
CREATE OR REPLACE FUNCTION ledger_lock_accounts(
    p_organizations uuid [],
    p_milliseconds_max integer
) RETURNS uuid [] LANGUAGE plpgsql AS $$
DECLARE
    v_organization_id uuid;
    v_locked uuid [] := '{}';
    v_busy uuid [] := '{}';
    v_end timestamptz := clock_timestamp() + p_milliseconds_max * interval '1 millisecond';
BEGIN
    IF p_milliseconds_max IS NULL THEN
        PERFORM FROM accounts AS a
        WHERE a.organization_id = any(p_organizations)
        ORDER BY a.organization_id
        FOR UPDATE;
        RETURN v_busy;
    END IF;

    IF p_milliseconds_max = 0 THEN
        PERFORM set_config('lock_timeout', '100', TRUE);
        SELECT array_agg(l.organization_id) INTO v_locked
        FROM (
            SELECT a.organization_id
            FROM accounts AS a
            WHERE a.organization_id = any(p_organizations)
            ORDER BY a.organization_id
            FOR UPDATE SKIP LOCKED
        ) AS l;
        IF cardinality(v_locked) = cardinality(p_organizations) THEN
            RETURN v_busy;
        END IF;
        -- An unknown organization has no account to lock.
        SELECT coalesce(array_agg(o.organization_id), '{}') INTO v_busy
        FROM (
            SELECT a.organization_id
            FROM accounts AS a
            WHERE a.organization_id = any(p_organizations)
            EXCEPT
            SELECT l.organization_id
            FROM unnest(v_locked) AS l (organization_id)
        ) AS o;
        RETURN v_busy;
    END IF;

    FOREACH v_organization_id IN ARRAY p_organizations
    LOOP
        BEGIN
            PERFORM set_config(
                'lock_timeout',
                greatest(ceil(extract(EPOCH FROM v_end - clock_timestamp()) * 1000), 1)::text,
                TRUE
            );
            PERFORM FROM accounts AS a
            WHERE a.organization_id = v_organization_id
            FOR UPDATE;
        EXCEPTION WHEN lock_not_available THEN
            v_busy := array_append(v_busy, v_organization_id);
        END;
    END LOOP;
    PERFORM set_config('lock_timeout', greatest(p_milliseconds_max, 100)::text, TRUE);
    RETURN v_busy;
END
$$;

-- Whether an organization was erased; NULL: there is none.
CREATE OR REPLACE FUNCTION ledger_is_erased(
    p_organization_id uuid
) RETURNS boolean LANGUAGE plpgsql STABLE STRICT AS $$
BEGIN
    RETURN (SELECT a.erased_at IS NOT NULL FROM accounts AS a WHERE a.organization_id = p_organization_id);
END
$$;

-- The credits that an account can spend without an overdraft.
CREATE OR REPLACE FUNCTION ledger_spendable(
    p_account accounts
) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT p_account.balance - p_account.held
$$;

-- The credits that a debit may take now.
CREATE OR REPLACE FUNCTION ledger_available(
    p_account accounts
) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT greatest(p_account.balance - p_account.held + p_account.overdraft_limit, 0)
$$;

-- Whether a debit or hold of an amount goes beyond the overdraft limit.
CREATE OR REPLACE FUNCTION ledger_exceeds_limit(
    p_account accounts,
    p_amount numeric
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT p_account.balance - p_account.held - p_amount < -p_account.overdraft_limit
$$;

-- What a hold still reserves while it is active: its amount, less its captures.
--
-- PostgreSQL inlines it.
CREATE OR REPLACE FUNCTION ledger_hold_rest(
    p_hold holds
) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT greatest(p_hold.amount - p_hold.captured_amount, 0)
$$;
