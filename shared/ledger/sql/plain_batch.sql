-- Plain debits of many organizations, posted in one statement.

-- Whether an account can take debits of so many credits in all, and they trigger nothing else. Debits that arm a recharge,
-- end its wait or cause a message are posted by ledger_post_organization.
--
-- PostgreSQL inlines it.
CREATE OR REPLACE FUNCTION ledger_takes_plainly(
    p_account accounts,
    p_burn numeric,
    p_now timestamptz
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT
        p_account.closed_at IS NULL
        AND (p_account.next_due_at <= p_now) IS NOT TRUE
        AND p_account.balance - p_account.held - p_burn >= -p_account.overdraft_limit
        AND NOT p_account.recharge_waits
        AND (p_account.balance - p_account.held - p_burn < p_account.recharge_below) IS NOT TRUE
        AND (p_account.balance - p_burn < ledger_alert_below(p_account)) IS NOT TRUE
        AND p_account.balance > p_burn
$$;

-- The organizations for which a batch holds only plain debits that all together fit into the burning grant and the
-- limit, and trigger nothing else: each result is known without deciding row by row, if its key is new; and whether
-- one of them has budgets. The accounts are locked already.
CREATE OR REPLACE FUNCTION ledger_plain_organizations(
    p_postings ledger_posting [],
    p_now timestamptz,
    OUT plain uuid [],
    OUT budgeted boolean
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    -- A look-up for each organization, not a join: of the statistics of a new installation, with one account, a join
    -- made a scan of all accounts, long after there were thousands.
    SELECT
        array_agg(s.organization_id),
        bool_or((f.account).budgets > 0)
    INTO plain, budgeted
    FROM (
        SELECT
            p.organization_id,
            -sum(p.amount) AS burn
        FROM unnest(p_postings) AS p
        GROUP BY p.organization_id
        HAVING
            bool_and(
                p.type IN ('usage', 'adjustment') AND p.amount < 0 AND p.repeated IS NOT TRUE
            )
    ) AS s
    CROSS JOIN LATERAL (
        SELECT a AS account
        FROM accounts AS a
        WHERE a.organization_id = s.organization_id
        OFFSET 0
    ) AS f
    CROSS JOIN LATERAL (
        SELECT
            g.id,
            g.remaining
        FROM ledger_open_grants(s.organization_id) AS g
        LIMIT 1
    ) AS next_grant
    WHERE
        ledger_takes_plainly(f.account, s.burn, p_now)
        AND (f.account).burning_grant_id = next_grant.id
        AND s.burn < next_grant.remaining
        AND CASE
            WHEN (f.account).budgets > 0
                THEN ledger_fits_budgets(
                    s.organization_id, p_postings, greatest(p_now, (f.account).updated_at)
                )
            ELSE TRUE
        END;
END
$$;

-- The plain debits of a batch (see above), with the columns of their rows that are not in the posting: in the order
-- of the batch within each organization, each with the hash of its chain. `burned` is the running total that the
-- debits take from the grant; `is_last` marks the last debit of its organization.
--
-- PostgreSQL inlines it into ledger_post_plain.
CREATE OR REPLACE FUNCTION ledger_plain_debits(
    p_postings ledger_posting [],
    p_organizations uuid [],
    p_now timestamptz
) RETURNS TABLE (
    place integer,
    posting ledger_posting,
    organization_id uuid,
    seq bigint,
    amount numeric,
    balance_after numeric,
    consumed_after numeric,
    created_at timestamptz,
    burning_grant_id uuid,
    burned numeric,
    is_last boolean,
    hash bytea
) LANGUAGE sql STABLE AS $$
    SELECT
        d.place,
        d.posting,
        d.organization_id,
        d.seq,
        d.amount,
        d.balance_after,
        d.consumed_after,
        d.created_at,
        d.burning_grant_id,
        d.burned,
        d.is_last,
        ledger_chain(
            d.last_hash,
            ledger_row_canonical(
                ledger_row(d.posting, d.seq, d.amount, d.balance_after, d.consumed_after, d.created_at, NULL)
            )
        ) OVER (PARTITION BY d.organization_id ORDER BY d.place ROWS UNBOUNDED PRECEDING)
    FROM (
        SELECT
            p.place,
            p.posting,
            a.organization_id,
            a.last_seq + row_number() OVER until_here AS seq,
            (p.posting).amount::numeric(38, 9) AS amount,
            a.balance + sum((p.posting).amount) OVER until_here AS balance_after,
            a.consumed - sum((p.posting).amount) OVER until_here AS consumed_after,
            greatest(p_now, a.updated_at) AS created_at,
            a.last_hash,
            a.burning_grant_id,
            -sum((p.posting).amount) OVER until_here AS burned,
            lead(FALSE, 1, TRUE) OVER until_here AS is_last
        FROM unnest(p_organizations) AS o (organization_id)
        -- Once for each organization, and not for each posting.
        CROSS JOIN LATERAL (
            SELECT f.*
            FROM accounts AS f
            WHERE f.organization_id = o.organization_id
            OFFSET 0
        ) AS a
        INNER JOIN ledger_places(p_postings) AS p ON a.organization_id = (p.posting).organization_id
        WINDOW
            until_here AS (PARTITION BY a.organization_id ORDER BY p.place ROWS UNBOUNDED PRECEDING)
    ) AS d
$$;

-- Posts the plain debits of any number of organizations, each table in one statement. Row by row the result is that of
-- ledger_post_organization. A key that is taken is a unique violation.
--
-- Its plan is made once and goes by index, since it may be made while the tables are still empty. `any(ARRAY[…])` for an
-- organization: an equality would allow a pass through the whole index, in its order, and of the statistics of a new
-- installation, with one account, PostgreSQL chose it.
CREATE OR REPLACE FUNCTION ledger_post_plain(p_postings ledger_posting [], p_organizations uuid [], p_now timestamptz)
RETURNS TABLE (
    place integer, status text, id uuid, seq bigint, amount numeric, balance_after numeric, created_at timestamptz
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH posted AS MATERIALIZED (
        SELECT d.* FROM ledger_plain_debits(p_postings, p_organizations, p_now) AS d
    ),

    appended AS (
        INSERT INTO credit_transactions
        SELECT
            (ledger_row(r.posting, r.seq, r.amount, r.balance_after, r.consumed_after, r.created_at, r.hash)).*
        FROM posted AS r
    ),

    totalled AS (
        INSERT INTO usage_totals AS u (organization_id, category, hour, quantity, cost, transactions)
        SELECT
            r.organization_id,
            (r.posting).category,
            date_trunc('hour', coalesce((r.posting).effective_at, r.created_at), 'UTC') AS hour,
            coalesce(sum((r.posting).quantity), 0),
            -sum(r.amount),
            count(*)
        FROM posted AS r
        WHERE (r.posting).type = 'usage' AND (r.posting).category IS NOT NULL
        GROUP BY r.organization_id, (r.posting).category, hour
        ON CONFLICT (organization_id, category, hour) DO UPDATE
        SET
            quantity = u.quantity + excluded.quantity,
            cost = u.cost + excluded.cost,
            transactions = u.transactions + excluded.transactions
    ),

    burned AS (
        UPDATE credit_grants AS g
        SET remaining = g.remaining - r.burned
        FROM posted AS r
        WHERE r.is_last AND g.organization_id = any(ARRAY[r.organization_id]) AND g.id = r.burning_grant_id
    ),

    heads AS (
        UPDATE accounts AS a
        SET
            balance = r.balance_after,
            consumed = r.consumed_after,
            last_seq = r.seq,
            last_hash = r.hash,
            updated_at = r.created_at
        FROM posted AS r
        WHERE r.is_last AND a.organization_id = any(ARRAY[r.organization_id])
    )

    SELECT
        r.place,
        'posted',
        (r.posting).id,
        r.seq,
        r.amount,
        r.balance_after,
        r.created_at
    FROM posted AS r;
    PERFORM ledger_add_breakdowns(p_postings, p_organizations);
END
$$;
