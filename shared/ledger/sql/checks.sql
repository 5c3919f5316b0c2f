-- What verification and invariants read of one organization: the statements that compare it with other tables call
-- these, and name no table of the ledger themselves.

-- The account of an organization.
CREATE OR REPLACE FUNCTION ledger_account(
    p_organization_id uuid
) RETURNS SETOF accounts LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY SELECT a.* FROM accounts AS a WHERE a.organization_id = p_organization_id;
END
$$;

-- The row of an organization with a seq.
CREATE OR REPLACE FUNCTION ledger_row_at(
    p_organization_id uuid,
    p_seq bigint
) RETURNS SETOF credit_transactions LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT t.*
    FROM credit_transactions AS t
    WHERE t.organization_id = p_organization_id AND t.seq = p_seq;
END
$$;

-- A page of the rows of all organizations after one, in the order of organization and seq, until an organization.
CREATE OR REPLACE FUNCTION ledger_page(
    p_organization_id uuid,
    p_seq bigint,
    p_until uuid,
    p_rows_max integer
) RETURNS SETOF credit_transactions LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT t.*
    FROM credit_transactions AS t
    WHERE (t.organization_id, t.seq) > (p_organization_id, p_seq) AND t.organization_id <= p_until
    ORDER BY t.organization_id, t.seq
    LIMIT p_rows_max;
END
$$;

-- Whether a row opened its grant.
CREATE OR REPLACE FUNCTION ledger_has_opened(
    p_organization_id uuid,
    p_seq bigint,
    p_id uuid
) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM credit_grants AS g
        WHERE g.organization_id = p_organization_id AND g.seq = p_seq AND g.transaction_id = p_id
    );
END
$$;

-- Whether a grant says that a row of this type ended it at a moment.
CREATE OR REPLACE FUNCTION ledger_has_ended(
    p_organization_id uuid,
    p_grant_id uuid,
    p_type text,
    p_moment timestamptz
) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM credit_grants AS g
        WHERE
            g.organization_id = p_organization_id
            AND g.id = p_grant_id
            AND g.ended_by = p_type
            AND g.ended_at = p_moment
    );
END
$$;

-- Whether a hold says that a row captured it, or a part of it.
CREATE OR REPLACE FUNCTION ledger_has_captured(
    p_organization_id uuid,
    p_hold_id uuid,
    p_id uuid,
    p_amount numeric,
    p_key text,
    p_moment timestamptz
) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM holds AS h
        WHERE
            h.organization_id = p_organization_id
            AND h.id = p_hold_id
            AND h.captured_amount >= -p_amount
            AND (
                (h.status = 'captured' AND h.closed_at = p_moment)
                -- A partial capture: its hold is active, or was closed later.
                OR (
                    p_key <> 'hold:' || h.id || ':capture'
                    AND h.captured_by IS DISTINCT FROM p_id
                    AND (h.closed_at >= p_moment) IS NOT FALSE
                )
            )
    );
END
$$;

-- What the grants, holds and burn segments of an account add up to, and what else its columns follow from.
-- `has_next_due`: something expires, or has expired, at the account's next_due_at.
CREATE OR REPLACE FUNCTION ledger_sums(
    p_account accounts,
    OUT remaining numeric,
    OUT expired numeric,
    OUT held numeric,
    OUT covered numeric,
    OUT overlap boolean,
    OUT gap boolean,
    OUT burning_grant_id uuid,
    OUT threshold numeric,
    OUT next_due_at timestamptz,
    OUT has_next_due boolean,
    OUT has_more_rows boolean
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    v_id uuid := p_account.organization_id;
BEGIN
    SELECT
        coalesce(sum(g.remaining), 0) - coalesce(sum(g.remaining) FILTER (WHERE e.is_past), 0),
        coalesce(sum(g.remaining) FILTER (WHERE e.is_past), 0)
    INTO remaining, expired
    FROM credit_grants AS g
    CROSS JOIN LATERAL (SELECT g.expires_at <= p_account.expired_through AS is_past) AS e
    WHERE g.organization_id = v_id AND NOT g.spent;
    SELECT coalesce(sum(ledger_hold_rest(h)), 0) INTO held
    FROM holds AS h
    WHERE h.organization_id = v_id AND h.status = 'active' AND h.expires_at > p_account.expired_through;
    SELECT
        coalesce(sum(s.until - s.lower), 0),
        coalesce(bool_or(s.lower < s.until_before), FALSE),
        coalesce(bool_or(s.lower > s.until_before), FALSE)
    INTO covered, overlap, gap
    FROM (
        SELECT
            b.lower,
            coalesce(b.upper, p_account.consumed) AS until,
            coalesce(lag(coalesce(b.upper, p_account.consumed)) OVER (ORDER BY b.lower), 0) AS until_before
        FROM burn_segments AS b
        WHERE b.organization_id = v_id
    ) AS s;
    burning_grant_id := (SELECT b.grant_id FROM burn_segments AS b WHERE b.organization_id = v_id AND b.upper IS NULL);
    threshold := (SELECT s.threshold FROM auto_recharges AS s WHERE s.organization_id = v_id AND s.state = 'active');
    next_due_at := ledger_next_due(v_id);
    has_next_due := EXISTS (
        SELECT FROM credit_grants AS g WHERE g.organization_id = v_id AND g.expires_at = p_account.next_due_at
    ) OR EXISTS (
        SELECT FROM holds AS h WHERE h.organization_id = v_id AND h.expires_at = p_account.next_due_at
    );
    has_more_rows := EXISTS (
        SELECT FROM credit_transactions AS t WHERE t.organization_id = v_id AND t.seq > p_account.last_seq
    );
END
$$;

-- What the rows of a payment credited, and its first row.
CREATE OR REPLACE FUNCTION ledger_credited(
    p_organization_id uuid,
    p_payment_intent_id text,
    OUT amount numeric,
    OUT seq bigint,
    OUT transaction_id uuid
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    SELECT
        coalesce(sum(t.amount), 0),
        min(t.seq),
        (array_agg(t.id ORDER BY t.seq))[1]
    INTO amount, seq, transaction_id
    FROM credit_grants AS g
    INNER JOIN credit_transactions AS t ON g.organization_id = t.organization_id AND g.seq = t.seq
    WHERE
        g.organization_id = p_organization_id
        AND g.payment_intent_id = p_payment_intent_id
        AND t.type <> 'dispute_reversal';
END
$$;

-- What the first steps of the reversals of a payment took, and how many of them there are.
CREATE OR REPLACE FUNCTION ledger_reversed(
    p_organization_id uuid,
    p_payment_intent_id text,
    p_steps bigint,
    OUT amount numeric,
    OUT steps bigint
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    SELECT
        coalesce(-sum(t.amount), 0),
        count(*)
    INTO amount, steps
    FROM generate_series(1, p_steps) AS n (number)
    INNER JOIN credit_transactions AS t
        ON t.idempotency_key = 'stripe:' || p_payment_intent_id || ':reversal:' || n.number
    WHERE t.organization_id = p_organization_id;
END
$$;

-- The balance of an account, and that of its verified row plus the amounts since; where these are more than a number of
-- rows, the balance before the newest ones, and their amounts.
CREATE OR REPLACE FUNCTION ledger_total(
    p_organization_id uuid,
    p_verified_seq bigint,
    p_rows_max bigint,
    OUT balance numeric,
    OUT last_seq bigint,
    OUT total numeric
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    v_seq bigint;
    v_before numeric;
BEGIN
    SELECT
        a.balance,
        a.last_seq
    INTO balance, last_seq
    FROM accounts AS a
    WHERE a.organization_id = p_organization_id;
    SELECT
        t.seq,
        t.balance_after
    INTO v_seq, v_before
    FROM credit_transactions AS t
    WHERE t.organization_id = p_organization_id AND t.seq = greatest(p_verified_seq, last_seq - p_rows_max);
    SELECT coalesce(v_before, 0) + coalesce(sum(t.amount), 0) INTO total
    FROM credit_transactions AS t
    WHERE t.organization_id = p_organization_id AND t.seq > coalesce(v_seq, 0);
END
$$;

-- The counters of budgets in their current windows, with what the rows of the window used and the open holds reserve. A
-- window of more than a number of rows is left out, and so is one that has ended: no posting reads it.
CREATE OR REPLACE FUNCTION ledger_counted(
    p_organization_id uuid,
    p_rows_max bigint
) RETURNS TABLE (
    budget_id uuid,
    last_seq bigint,
    used numeric,
    held numeric,
    rows_used numeric,
    rows_held numeric
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    v_account accounts;
    v_counter record;
    v_seq bigint;
BEGIN
    SELECT a.* INTO v_account
    FROM accounts AS a
    WHERE a.organization_id = p_organization_id AND a.budgets > 0;
    FOR v_counter IN
        SELECT
            b.id,
            b.subject_kind,
            b.window_kind,
            c.subject,
            c.used,
            c.held
        FROM budgets AS b
        INNER JOIN budget_counters AS c ON b.organization_id = c.organization_id AND b.id = c.budget_id
        WHERE
            b.organization_id = v_account.organization_id
            AND b.removed_at IS NULL
            AND c.window_end = ledger_window_end(b.window_kind, v_account.updated_at)
    LOOP
        v_seq := ledger_seq_before(
            p_organization_id, ledger_window_start(v_counter.window_kind, v_account.updated_at)
        );
        CONTINUE WHEN v_account.last_seq - v_seq > p_rows_max;
        budget_id := v_counter.id;
        last_seq := v_account.last_seq;
        used := v_counter.used;
        held := v_counter.held;
        SELECT coalesce(-sum(t.amount), 0) INTO rows_used
        FROM credit_transactions AS t
        WHERE
            t.organization_id = p_organization_id
            AND t.seq > v_seq
            AND ledger_counts_in_budgets(t.type)
            AND v_counter.subject = any(ledger_dimension(v_counter.subject_kind, t.user_id, t.category, t.metadata));
        SELECT coalesce(sum(ledger_hold_rest(h)), 0) INTO rows_held
        FROM holds AS h
        WHERE
            h.organization_id = p_organization_id
            AND h.status = 'active'
            AND h.expires_at > v_account.expired_through
            AND v_counter.subject = any(ledger_dimension(v_counter.subject_kind, h.user_id, h.category, h.metadata));
        RETURN NEXT;
    END LOOP;
END
$$;
