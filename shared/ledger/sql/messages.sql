-- Messages about a balance that is low, recovered or depleted.

-- The thresholds of a balance: what the organization set for alerts, and the one for `credits.low`.
CREATE OR REPLACE FUNCTION ledger_alert_thresholds(
    p_account accounts
) RETURNS SETOF numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT DISTINCT t.threshold
    FROM unnest(array_append(p_account.alert_thresholds, p_account.low_below)) AS t (threshold)
    WHERE t.threshold IS NOT NULL
$$;

-- The highest threshold that is not announced as low. Without either of the two columns, the account is as an older
-- release wrote it. PostgreSQL inlines it.
CREATE OR REPLACE FUNCTION ledger_alert_below(
    p_account accounts
) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        p_account.alert_below,
        CASE WHEN p_account.alert_above IS NULL AND NOT p_account.low_announced THEN p_account.low_below END
    )
$$;

-- The lowest threshold that is announced as low.
CREATE OR REPLACE FUNCTION ledger_alert_above(
    p_account accounts
) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        p_account.alert_above,
        CASE WHEN p_account.alert_below IS NULL AND p_account.low_announced THEN p_account.low_below END
    )
$$;

-- Announces that a balance has crossed thresholds.
CREATE OR REPLACE FUNCTION ledger_announce_thresholds(
    p_account accounts,
    p_type text,
    p_thresholds numeric [],
    p_cause uuid,
    p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM announce(
        p_account.organization_id,
        md5(p_type || p_cause || coalesce(t.threshold::text, ''))::uuid,
        p_type,
        jsonb_build_object('balance', p_account.balance, 'threshold', t.threshold),
        p_now
    )
    FROM unnest(p_thresholds) AS t (threshold);
END
$$;

-- Announces that a balance has fallen to nothing or below thresholds, or has recovered, each once for a crossing.
-- `below` is then the highest threshold that is not announced as low, and `above` the lowest that is.
CREATE OR REPLACE FUNCTION ledger_announce_balance(
    p_account accounts,
    p_before numeric,
    p_cause uuid,
    p_now timestamptz,
    OUT below numeric,
    OUT above numeric
) LANGUAGE plpgsql AS $$
DECLARE
    v_balance numeric := p_account.balance;
    v_crossed numeric [];
BEGIN
    below := ledger_alert_below(p_account);
    above := ledger_alert_above(p_account);
    IF v_balance <= 0 AND p_before > 0 THEN
        PERFORM ledger_announce_thresholds(
            p_account, 'credits.depleted', ARRAY[p_account.low_below], p_cause, p_now
        );
        below := NULL;
        above := (SELECT min(t) FROM ledger_alert_thresholds(p_account) AS t);
    ELSIF v_balance < p_before AND v_balance < below THEN
        v_crossed := array(
            SELECT t
            FROM ledger_alert_thresholds(p_account) AS t
            WHERE t > v_balance AND t <= below
        );
        PERFORM ledger_announce_thresholds(p_account, 'credits.low', v_crossed, p_cause, p_now);
        below := (SELECT max(t) FROM ledger_alert_thresholds(p_account) AS t WHERE t <= v_balance);
        above := (SELECT min(t) FROM unnest(v_crossed) AS t);
    ELSIF v_balance > p_before AND v_balance >= above THEN
        v_crossed := array(
            SELECT t
            FROM ledger_alert_thresholds(p_account) AS t
            WHERE t >= above AND t <= v_balance
        );
        PERFORM ledger_announce_thresholds(p_account, 'credits.recovered', v_crossed, p_cause, p_now);
        below := (SELECT max(t) FROM unnest(v_crossed) AS t);
        above := (SELECT min(t) FROM ledger_alert_thresholds(p_account) AS t WHERE t > v_balance);
    END IF;
END
$$;
