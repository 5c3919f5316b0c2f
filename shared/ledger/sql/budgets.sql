-- Budgets: what a posting, a hold or the expiry of holds changes in them, under the account's lock.

-- The start of the window that a moment is in, in UTC; `-infinity` where there is one window alone.
CREATE OR REPLACE FUNCTION ledger_window_start(
    p_window_kind text,
    p_moment timestamptz
) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE p_window_kind WHEN 'total' THEN '-infinity' ELSE date_trunc(p_window_kind, p_moment, 'UTC') END
$$;

-- The first moment after the window that a moment is in; `infinity` where there is one window alone. A month is one of
-- UTC, whatever the session's time zone.
CREATE OR REPLACE FUNCTION ledger_window_end(
    p_window_kind text,
    p_moment timestamptz
) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE p_window_kind
        WHEN 'total' THEN 'infinity'
        ELSE (
            date_trunc(p_window_kind, p_moment, 'UTC') AT TIME ZONE 'UTC' + ('1 ' || p_window_kind)::interval
        ) AT TIME ZONE 'UTC'
    END
$$;

-- The end of the current window of a kind, by the clock of an organization's ledger, the last row before the window,
-- and the last row of all.
CREATE OR REPLACE FUNCTION ledger_window(
    p_organization_id uuid,
    p_window_kind text,
    OUT window_end text,
    OUT seq_before bigint,
    OUT last_seq bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
BEGIN
    SELECT
        greatest(clock_timestamp(), a.updated_at),
        a.last_seq
    INTO v_now, last_seq
    FROM accounts AS a
    WHERE a.organization_id = p_organization_id;
    window_end := ledger_window_end(p_window_kind, v_now)::text;
    seq_before := ledger_seq_before(p_organization_id, ledger_window_start(p_window_kind, v_now));
END
$$;

-- Whether a transaction of this type counts in budgets.
CREATE OR REPLACE FUNCTION ledger_counts_in_budgets(
    p_type text
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT p_type IN ('usage', 'hold_capture')
$$;

-- What a hold adds to the budgets of its subjects.
CREATE OR REPLACE FUNCTION ledger_hold_item(
    p_hold holds,
    p_held numeric
) RETURNS ledger_budget_item LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT row(p_hold.user_id, p_hold.category, p_hold.metadata, 0, p_held)::ledger_budget_item
$$;

-- What a posting adds to the budgets of its subjects.
CREATE OR REPLACE FUNCTION ledger_posting_item(
    p_posting ledger_posting
) RETURNS ledger_budget_item LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT row(p_posting.user_id, p_posting.category, p_posting.metadata, -p_posting.amount, 0)::ledger_budget_item
$$;

-- The counters that items change, before and after, in the order of their budgets. It writes nothing. A counter of an
-- earlier window counts from zero.
CREATE OR REPLACE FUNCTION ledger_budget_changes(
    p_organization_id uuid,
    p_items ledger_budget_item [],
    p_now timestamptz
) RETURNS ledger_budget_change [] LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    v_changes ledger_budget_change [];
BEGIN
    SELECT
        array_agg(
            row(
                b.id,
                b.subject_kind,
                s.subject,
                b.window_kind,
                w.window_end,
                b.limit_amount,
                b.action = 'refuse',
                b.thresholds,
                b.subject = s.subject OR NOT EXISTS (
                    SELECT FROM budgets AS n
                    WHERE
                        n.organization_id = p_organization_id
                        AND n.subject_kind = s.kind
                        AND n.subject = s.subject
                        AND n.window_kind = b.window_kind
                        AND n.removed_at IS NULL
                ),
                u.used,
                coalesce(c.held, 0),
                u.used + s.used,
                greatest(coalesce(c.held, 0) + s.held, 0)
            )::ledger_budget_change
            ORDER BY b.id, s.subject
        )
    INTO v_changes
    FROM (
        SELECT
            k.kind,
            v.subject,
            sum(i.used) AS used,
            sum(i.held) AS held
        FROM unnest(p_items) AS i
        CROSS JOIN unnest(ARRAY['user', 'key', 'category', 'tag']) AS k (kind)
        CROSS JOIN LATERAL unnest(ledger_dimension(k.kind, i.user_id, i.category, i.metadata)) AS v (subject)
        WHERE EXISTS (
            SELECT FROM budgets AS b
            WHERE b.organization_id = p_organization_id AND b.subject_kind = k.kind AND b.removed_at IS NULL
        )
        GROUP BY k.kind, v.subject
    ) AS s
    INNER JOIN budgets AS b
        ON
            b.organization_id = p_organization_id
            AND s.kind = b.subject_kind
            AND b.subject IN (s.subject, '*')
            AND b.removed_at IS NULL
    LEFT JOIN budget_counters AS c
        ON
            c.organization_id = p_organization_id
            AND b.id = c.budget_id
            AND s.subject = c.subject
    CROSS JOIN LATERAL (SELECT ledger_window_end(b.window_kind, p_now) AS window_end) AS w
    CROSS JOIN LATERAL (SELECT CASE WHEN c.window_end = w.window_end THEN c.used ELSE 0 END AS used) AS u;
    RETURN v_changes;
END
$$;

-- Whether a change goes beyond a limit that refuses. What lowers a budget, or leaves it as it is, never does.
CREATE OR REPLACE FUNCTION ledger_exceeds_budget(
    p_change ledger_budget_change
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT
        p_change.enforced
        AND p_change.refuses
        AND p_change.used + p_change.held > p_change.limit_amount
        AND p_change.used + p_change.held > p_change.used_before + p_change.held_before
$$;

-- The budget that refuses changes, with its numbers: of several the one that resets last. NULL: none does.
CREATE OR REPLACE FUNCTION ledger_budget_refusal(
    p_changes ledger_budget_change []
) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT
        jsonb_build_object(
            'budget_id', c.budget_id,
            'subject_kind', c.subject_kind,
            'subject', c.subject,
            'window_kind', c.window_kind,
            'limit', c.limit_amount::text,
            'used', c.used_before::text,
            'held', c.held_before::text,
            'required', (c.used + c.held - c.used_before - c.held_before)::text,
            'resets_at', nullif(c.window_end, 'infinity')
        )
    FROM unnest(p_changes) AS c
    WHERE ledger_exceeds_budget(c)
    ORDER BY c.window_end DESC, c.budget_id
    LIMIT 1
$$;

-- Whether a change crosses a threshold that is a percentage of the limit.
CREATE OR REPLACE FUNCTION ledger_crosses_threshold(
    p_change ledger_budget_change,
    p_threshold smallint
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT
        p_change.enforced
        AND p_change.used_before * 100 < p_change.limit_amount * p_threshold
        AND p_change.used * 100 >= p_change.limit_amount * p_threshold
$$;

-- Writes the counters of changes, and announces the thresholds that they cross, each once for a window and a limit.
CREATE OR REPLACE FUNCTION ledger_count_budgets(
    p_organization_id uuid,
    p_changes ledger_budget_change [],
    p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_changes IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO budget_counters AS b (organization_id, budget_id, subject, window_end, used, held)
    SELECT
        p_organization_id,
        c.budget_id,
        c.subject,
        c.window_end,
        c.used,
        c.held
    FROM unnest(p_changes) AS c
    ON CONFLICT (organization_id, budget_id, subject) DO UPDATE
    SET
        window_end = excluded.window_end,
        used = excluded.used,
        held = excluded.held;
    PERFORM announce(
        p_organization_id,
        md5('budget.reached' || concat_ws('/', c.budget_id, c.window_end, c.limit_amount, t, c.subject))::uuid,
        'budget.reached',
        jsonb_build_object(
            'budgetId', c.budget_id,
            'subjectKind', c.subject_kind,
            'subject', c.subject,
            'window', c.window_kind,
            'threshold', t,
            'limit', c.limit_amount,
            'used', c.used,
            'resetsAt', nullif(c.window_end, 'infinity')
        ),
        p_now
    )
    FROM unnest(p_changes) AS c
    CROSS JOIN unnest(c.thresholds) AS t
    WHERE ledger_crosses_threshold(c, t)
    ORDER BY c.budget_id, t;
END
$$;

-- The changes of a posting; a capture takes `p_released` out of what its hold has reserved.
CREATE OR REPLACE FUNCTION ledger_posting_budgets(
    p_posting ledger_posting,
    p_released numeric,
    p_now timestamptz
) RETURNS ledger_budget_change [] LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_hold holds;
    v_items ledger_budget_item [] := ARRAY[ledger_posting_item(p_posting)];
BEGIN
    IF p_posting.hold_id IS NOT NULL THEN
        SELECT h.* INTO v_hold
        FROM holds AS h
        WHERE h.organization_id = p_posting.organization_id AND h.id = p_posting.hold_id;
        v_items := array_append(v_items, ledger_hold_item(v_hold, -p_released));
    END IF;
    RETURN ledger_budget_changes(p_posting.organization_id, v_items, p_now);
END
$$;

-- The budget that refuses a posting. Usage that has already happened, and a capture of no more than its hold, are
-- never refused: the first cannot be undone, the second was reserved.
CREATE OR REPLACE FUNCTION ledger_refusing_budget(
    p_account accounts,
    p_posting ledger_posting,
    p_now timestamptz
) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_hold holds;
BEGIN
    IF p_posting.type = 'usage' AND p_posting.may_overdraw IS NOT TRUE THEN
        RETURN ledger_budget_refusal(ledger_posting_budgets(p_posting, 0, p_now));
    END IF;
    IF p_posting.type = 'hold_capture' AND p_posting.may_overdraw AND p_posting.past_limit IS NOT TRUE THEN
        SELECT h.* INTO v_hold
        FROM holds AS h
        WHERE h.organization_id = p_account.organization_id AND h.id = p_posting.hold_id;
        IF
            v_hold.status = 'active'
            AND v_hold.expires_at > p_now
            AND -p_posting.amount > ledger_hold_rest(v_hold)
        THEN
            RETURN ledger_budget_refusal(
                ledger_posting_budgets(p_posting, ledger_hold_rest(v_hold), p_now)
            );
        END IF;
    END IF;
    RETURN NULL;
END
$$;

-- The changes of the usage of one organization in a batch, as one.
CREATE OR REPLACE FUNCTION ledger_batch_budgets(
    p_organization_id uuid,
    p_postings ledger_posting [],
    p_now timestamptz
) RETURNS ledger_budget_change [] LANGUAGE sql STABLE AS $$
    SELECT
        ledger_budget_changes(
            p_organization_id,
            array(
                SELECT ledger_posting_item(p)
                FROM unnest(p_postings) AS p
                WHERE p.organization_id = p_organization_id AND ledger_counts_in_budgets(p.type)
            ),
            p_now
        )
$$;

-- Whether a batch of plain debits of one organization fits into its budgets as a whole, and crosses no threshold: each
-- result is known without deciding row by row.
CREATE OR REPLACE FUNCTION ledger_fits_budgets(
    p_organization_id uuid,
    p_postings ledger_posting [],
    p_now timestamptz
) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT NOT EXISTS (
        SELECT FROM unnest(ledger_batch_budgets(p_organization_id, p_postings, p_now)) AS c
        WHERE
            ledger_exceeds_budget(c)
            OR EXISTS (SELECT FROM unnest(c.thresholds) AS t WHERE ledger_crosses_threshold(c, t))
    )
$$;

-- Counts plain debits that were posted now in the budgets of their organizations.
CREATE OR REPLACE FUNCTION ledger_count_plain(
    p_postings ledger_posting [],
    p_organizations uuid []
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_account record;
BEGIN
    FOR v_account IN
        SELECT
            a.organization_id,
            a.updated_at
        FROM accounts AS a
        WHERE a.organization_id = any(p_organizations) AND a.budgets > 0
        ORDER BY a.organization_id
    LOOP
        PERFORM ledger_count_budgets(
            v_account.organization_id,
            ledger_batch_budgets(v_account.organization_id, p_postings, v_account.updated_at),
            v_account.updated_at
        );
    END LOOP;
END
$$;

-- Takes what a hold still reserves out of budgets.
CREATE OR REPLACE FUNCTION ledger_release_budgets(
    p_hold holds,
    p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ledger_count_budgets(
        p_hold.organization_id,
        ledger_budget_changes(
            p_hold.organization_id, ARRAY[ledger_hold_item(p_hold, -ledger_hold_rest(p_hold))], p_now
        ),
        p_now
    );
END
$$;

-- Takes holds that have expired out of budgets.
CREATE OR REPLACE FUNCTION ledger_expire_budgets(
    p_organization_id uuid,
    p_after timestamptz,
    p_now timestamptz
) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    v_items ledger_budget_item [];
BEGIN
    v_items := array(
        SELECT ledger_hold_item(h, -ledger_hold_rest(h))
        FROM holds AS h
        WHERE
            h.organization_id = p_organization_id
            AND h.status = 'active'
            AND h.expires_at > p_after
            AND h.expires_at <= p_now
    );
    PERFORM ledger_count_budgets(
        p_organization_id, ledger_budget_changes(p_organization_id, v_items, p_now), p_now
    );
END
$$;
