-- Posting for one organization: the general case, one posting after the other.

DROP FUNCTION IF EXISTS ledger_write(accounts, credit_transactions [], timestamptz, boolean);

-- The row under which a key was posted before: in the table, or earlier in the same batch.
CREATE OR REPLACE FUNCTION ledger_find_row(
    p_organization_id uuid,
    p_key text,
    p_seq bigint,
    p_rows credit_transactions []
) RETURNS credit_transactions LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_row credit_transactions;
BEGIN
    IF p_seq IS NOT NULL THEN
        SELECT t.* INTO v_row
        FROM credit_transactions AS t
        WHERE t.organization_id = p_organization_id AND t.seq = p_seq;
    ELSE
        SELECT r.* INTO v_row
        FROM unnest(p_rows) AS r
        WHERE r.idempotency_key = p_key;
    END IF;
    RETURN v_row;
END
$$;

-- The result of a posting without a decision: its key was posted before, or the account takes no postings.
CREATE OR REPLACE FUNCTION ledger_known_status(
    p_account accounts,
    p_posting ledger_posting,
    p_row credit_transactions
) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN p_row.request_digest = p_posting.digest THEN 'replayed'
        WHEN p_row.id IS NOT NULL THEN 'conflict'
        WHEN p_account.organization_id IS NULL THEN 'unknown_organization'
        WHEN p_account.closed_at IS NOT NULL AND p_posting.type <> 'expiration' THEN 'closed'
    END
$$;

-- Whether a posting reads the rest of grants: earlier debits must have burned theirs first.
CREATE OR REPLACE FUNCTION ledger_reads_grants(
    p_posting ledger_posting
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT p_posting.type IN ('refund', 'dispute', 'expiration', 'void') OR p_posting.amount > 0
$$;

-- Whether a row has changed which grants and holds are open, and so when the next one expires.
CREATE OR REPLACE FUNCTION ledger_changes_due(
    p_row credit_transactions
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT p_row.type NOT IN ('usage', 'adjustment') OR p_row.amount > 0
$$;

-- Takes the target of a posting of these types: a captured hold, a grant that ends, the grants of a payment. `amount`
-- is that of its row, `burn` the part to take from the open grants in their order, and `released` the amount of the
-- captured hold.
CREATE OR REPLACE FUNCTION ledger_take(
    p_account accounts,
    p_posting ledger_posting,
    p_now timestamptz,
    OUT status text,
    OUT amount numeric,
    OUT burn numeric,
    OUT released numeric
) LANGUAGE plpgsql AS $$
BEGIN
    status := 'posted';
    amount := p_posting.amount;
    burn := greatest(-amount, 0);
    released := 0;
    CASE p_posting.type
        WHEN 'hold_capture' THEN
            SELECT
                c.status,
                c.held
            INTO status, released
            FROM ledger_capture_hold(p_account, p_posting, p_now) AS c;
        WHEN 'expiration', 'void' THEN
            SELECT
                e.status,
                e.amount
            INTO status, amount
            FROM ledger_end_grant(p_account, p_posting, p_now) AS e;
        WHEN 'refund', 'dispute' THEN
            burn := burn - ledger_take_from_payment(p_account, p_posting.payment_intent_id, burn);
    END CASE;
END
$$;

-- Decides one posting and applies it: returns its status, its row where it is `posted`, and the account after it.
-- Where usage is `insufficient`, `needed` is the amount that it requires. `budget` is the one that refuses it.
--
-- Expired credits are in `expired`, not in the balance; see ledger_expire.
CREATE OR REPLACE FUNCTION ledger_apply(
    p_account accounts,
    p_posting ledger_posting,
    p_now timestamptz,
    OUT status text,
    OUT account accounts,
    OUT posted credit_transactions,
    OUT needed numeric,
    OUT budget jsonb
) LANGUAGE plpgsql AS $$
DECLARE
    v_amount numeric := p_posting.amount;
    v_burn numeric := greatest(-p_posting.amount, 0);
    v_released numeric := 0;
    v_taken record;
BEGIN
    account := p_account;
    status := 'posted';
    IF account.budgets > 0 THEN
        budget := ledger_refusing_budget(account, p_posting, p_now);
    END IF;
    IF budget IS NOT NULL THEN
        status := 'budget_exceeded';  -- before the balance: a recharge would not help
    ELSIF p_posting.type IN ('usage', 'adjustment') THEN
        IF v_burn > 0 AND p_posting.may_overdraw IS NOT TRUE AND ledger_exceeds_limit(account, v_burn) THEN
            status := 'insufficient';
        END IF;
    ELSIF p_posting.type IN ('hold_capture', 'expiration', 'void', 'refund', 'dispute') THEN
        v_taken := ledger_take(account, p_posting, p_now);
        status := v_taken.status;
        v_amount := v_taken.amount;
        v_burn := v_taken.burn;
        v_released := v_taken.released;
    END IF;
    IF status <> 'posted' THEN
        IF status = 'insufficient' AND p_posting.type <> 'adjustment' THEN
            needed := v_burn - v_released;
            account.recharge_waits := FALSE;
        END IF;
        RETURN;
    END IF;

    account.last_seq := account.last_seq + 1;
    account.consumed := account.consumed + v_burn;
    account.held := account.held - v_released;
    IF p_posting.type = 'expiration' THEN
        account.expired := account.expired + v_amount;
    ELSE
        account.balance := account.balance + v_amount;
    END IF;
    posted := ledger_row(
        p_posting, account.last_seq, v_amount, account.balance + account.expired, account.consumed, p_now, NULL
    );
    posted.hash := ledger_row_hash(account.last_hash, posted);
    account.last_hash := posted.hash;
    IF v_amount > 0 THEN
        PERFORM ledger_open_grant(p_account, posted, p_posting);
    ELSIF account.budgets > 0 AND ledger_counts_in_budgets(p_posting.type) THEN
        PERFORM ledger_count_budgets(
            account.organization_id, ledger_posting_budgets(p_posting, v_released, p_now), p_now
        );
    END IF;
    account.recharge_waits := ledger_recharge_waits(account, posted);
END
$$;

-- Writes the changes of postings: the rows, the usage totals, the account, and the messages about its balance.
CREATE OR REPLACE FUNCTION ledger_save(
    p_account accounts,
    p_rows credit_transactions [],
    p_now timestamptz,
    p_due_changed boolean
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_next_due_at timestamptz := p_account.next_due_at;
    v_alerts record;
    v_usage usage_totals [];
BEGIN
    -- Expired credits are part of the stored balance until their expiration is posted.
    p_account.balance := p_account.balance + p_account.expired;
    IF cardinality(p_rows) > 0 THEN
        INSERT INTO credit_transactions SELECT r.* FROM unnest(p_rows) AS r;
        v_usage := array(
            SELECT ledger_usage(r)
            FROM unnest(p_rows) AS r
            WHERE r.type IN ('usage', 'hold_capture') AND r.category IS NOT NULL
        );
        IF cardinality(v_usage) > 0 THEN
            PERFORM ledger_add_usage(v_usage);
        END IF;
        IF p_account.usage_dimensions IS NOT NULL THEN
            PERFORM ledger_add_breakdown(p_account.organization_id, p_account.usage_dimensions, p_rows);
        END IF;
        v_alerts := ledger_announce_balance(
            p_account,
            p_rows[1].balance_after - p_rows[1].amount,
            p_rows[cardinality(p_rows)].id,
            p_now
        );
        p_account.alert_below := v_alerts.below;
        p_account.alert_above := v_alerts.above;
    END IF;
    IF p_due_changed THEN
        v_next_due_at := ledger_next_due(p_account.organization_id);
    END IF;
    UPDATE accounts AS a
    SET
        balance = p_account.balance,
        held = p_account.held,
        consumed = p_account.consumed,
        burning_grant_id = p_account.burning_grant_id,
        expired = p_account.expired,
        expired_through = p_account.expired_through,
        next_due_at = v_next_due_at,
        last_seq = p_account.last_seq,
        last_hash = p_account.last_hash,
        alert_below = p_account.alert_below,
        alert_above = p_account.alert_above,
        recharge_waits = p_account.recharge_waits,
        updated_at = p_now
    WHERE a.organization_id = p_account.organization_id;
END
$$;

-- Begins a run of postings: locks the account, expires what is due, and looks up the seqs of keys that were posted
-- before. `account` is NULL for an unknown organization.
CREATE OR REPLACE FUNCTION ledger_begin(
    p_organization_id uuid,
    p_postings ledger_posting [],
    p_expirations_max integer,
    OUT account accounts,
    OUT now timestamptz,
    OUT due boolean,
    OUT postings ledger_posting [],
    OUT seqs bigint []
) LANGUAGE plpgsql AS $$
BEGIN
    -- The lock comes first: every later statement sees what earlier transactions have committed.
    SELECT a.* INTO account
    FROM accounts AS a
    WHERE a.organization_id = p_organization_id
    FOR UPDATE;
    -- Along a ledger, created_at never goes back: a moment is found in it by bisection.
    now := greatest(clock_timestamp(), account.updated_at);
    due := coalesce(account.next_due_at <= now, FALSE);
    postings := p_postings;
    IF due THEN
        account := ledger_expire(account, now, p_expirations_max);
        postings := ledger_expirations(p_organization_id, now, p_expirations_max) || p_postings;
    END IF;
    -- A look-up for each key, not a join: no statistics, however old, can make it a scan.
    SELECT
        array_agg(
            (
                SELECT t.seq
                FROM credit_transactions AS t
                WHERE t.organization_id = p_organization_id AND t.idempotency_key = p.key
            )
            ORDER BY p.ordinality
        )
    INTO seqs
    FROM unnest(postings) WITH ORDINALITY AS p;
END
$$;

-- Ends a run of postings: burns their remaining consumption, writes, and arms a recharge.
CREATE OR REPLACE FUNCTION ledger_finish(
    p_account accounts,
    p_rows credit_transactions [],
    p_now timestamptz,
    p_unburned numeric,
    p_due_changed boolean,
    p_arming_id uuid,
    p_needed numeric
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_unburned > 0 THEN
        p_account := ledger_burn(p_account, p_unburned);
    END IF;
    IF cardinality(p_rows) > 0 OR p_due_changed THEN
        PERFORM ledger_save(p_account, p_rows, p_now, p_due_changed);
    ELSIF p_needed IS NOT NULL THEN
        PERFORM ledger_end_recharge_wait(p_account.organization_id);
    END IF;
    IF p_arming_id IS NOT NULL OR p_needed IS NOT NULL THEN
        PERFORM ledger_arm_recharge(p_account, p_arming_id, p_needed, p_now);
    END IF;
END
$$;

-- Posts transfers of one organization, in their order, in the caller's transaction; grants and holds that are due
-- expire first. No posting spends expired credits. The expirations of `p_expirations_max` grants are posted now and
-- as many holds closed, the rest later: until then a row's balance_after still includes those grants.
--
-- A result for each, in the same order: `posted`; `replayed` (the key was posted before with the same
-- request: the first row is the answer); `conflict` (the key was posted before with another request);
-- `insufficient` (the available credits do not cover it); `budget_exceeded`; `unknown_organization`; `closed`;
-- `unknown_grant`, `nothing_left` (void); `unknown_hold`, `hold_closed`, `exceeds_hold` (capture). A
-- refused posting changes nothing, and the rest of its batch is posted. `held` and `available` are set where it is
-- `insufficient`: the credits on hold at that point, and those that a debit could take; `budget` where it is
-- `budget_exceeded`.
--
-- Usage and captures that leave less than the threshold arm a recharge; usage that is refused arms one too
-- (see ledger_arm_recharge). Postings that take credits back arm none, and auto-recharge then waits for the next usage.
CREATE OR REPLACE FUNCTION ledger_post_organization(
    p_organization_id uuid,
    p_postings ledger_posting [],
    p_expirations_max integer DEFAULT 20
) RETURNS TABLE (
    status text, id uuid, seq bigint, amount numeric, balance_after numeric, created_at timestamptz,
    held numeric, available numeric, budget jsonb
) LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_run record := ledger_begin(p_organization_id, p_postings, p_expirations_max);
    v_account accounts := v_run.account;
    v_due_changed boolean := v_run.due;
    v_burned numeric := v_account.consumed;  -- part of `consumed`: a run of debits burns as one
    v_posting ledger_posting;
    v_step record;
    v_row credit_transactions;
    v_rows credit_transactions [] := '{}';
    v_arming_id uuid;
    v_needed numeric;
BEGIN
    -- Fewer cost less one by one than the start of its statements.
    IF cardinality(v_run.postings) >= 5 AND ledger_takes_credits(v_account, v_run.postings) THEN
        RETURN QUERY
        SELECT c.* FROM ledger_post_credits(v_account, v_run.now, v_run.due, v_run.postings, v_run.seqs) AS c;
        RETURN;
    END IF;
    FOR v_place IN 1..cardinality(v_run.postings) LOOP
        v_posting := v_run.postings[v_place];
        v_row := NULL;
        budget := NULL;
        IF v_run.seqs[v_place] IS NOT NULL OR v_posting.repeated THEN
            v_row := ledger_find_row(p_organization_id, v_posting.key, v_run.seqs[v_place], v_rows);
        END IF;
        status := ledger_known_status(v_account, v_posting, v_row);
        IF status IS NULL THEN
            IF v_account.consumed > v_burned AND ledger_reads_grants(v_posting) THEN
                v_account := ledger_burn(v_account, v_account.consumed - v_burned);
                v_burned := v_account.consumed;
            END IF;
            v_step := ledger_apply(v_account, v_posting, v_run.now);
            status := v_step.status;
            budget := v_step.budget;
            v_account := v_step.account;
            v_row := v_step.posted;
            v_needed := greatest(v_needed, v_step.needed);
        END IF;
        IF status = 'posted' THEN
            v_rows := array_append(v_rows, v_row);
            v_due_changed := v_due_changed OR ledger_changes_due(v_row);
            v_arming_id := ledger_arming_id(v_account, v_row, v_arming_id);
            v_needed := CASE WHEN NOT v_account.recharge_waits THEN v_needed END;
        END IF;
        IF v_posting.type <> 'expiration' THEN
            id := v_row.id;
            seq := v_row.seq;
            amount := coalesce(v_row.amount, v_posting.amount);
            balance_after := coalesce(v_row.balance_after, v_account.balance);
            created_at := v_row.created_at;
            held := CASE WHEN status = 'insufficient' THEN v_account.held END;
            available := CASE WHEN status = 'insufficient' THEN ledger_available(v_account) END;
            RETURN NEXT;
        END IF;
    END LOOP;
    PERFORM ledger_finish(
        v_account, v_rows, v_run.now, v_account.consumed - v_burned, v_due_changed, v_arming_id, v_needed
    );
END
$$;

-- Posts expirations of an organization, up to a number, and nothing else; FALSE: its account is locked.
CREATE OR REPLACE FUNCTION ledger_post_expirations(
    p_organization_id uuid,
    p_expirations_max integer
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM accounts AS a
    WHERE a.organization_id = p_organization_id
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    PERFORM ledger_post_organization(p_organization_id, '{}', p_expirations_max);
    RETURN TRUE;
END
$$;
