-- name: begin
-- Take the last minute that has ended, unless it is sampled already or another worker samples it now. $1 is how long
-- after its end a minute is sampled, so that what was received in it has committed.
SELECT
    m.ends_at,
    (SELECT c.reltuples FROM pg_class AS c WHERE c.oid = 'accounts'::regclass)::float8 AS accounts
FROM (SELECT date_trunc('minute', now() - $1::interval) AS ends_at) AS m
WHERE
    pg_try_advisory_xact_lock(hashtextextended('prepaid.samples', 0))
    AND NOT EXISTS (
        SELECT FROM metric_samples AS s
        WHERE s.name = 'backlog' AND s.label = '' AND s.sampled_at = m.ends_at
    );

-- name: events_received
-- How many events arrived in the minute that ended at $1.
SELECT count(*)
FROM stripe_events
WHERE received_at >= $1::timestamptz - interval '1 minute' AND received_at < $1::timestamptz;

-- name: event_to_ledger
-- From receipt to effect: the median and the 99th percentile of the events that were applied in the minute that ended
-- at $1, or NULL without any. Served by stripe_events_to_forget.
SELECT
    percentile_cont(0.5) WITHIN GROUP (ORDER BY e.seconds) AS p50_seconds,
    percentile_cont(0.99) WITHIN GROUP (ORDER BY e.seconds) AS p99_seconds
FROM (
    SELECT extract(EPOCH FROM settled_at - received_at)::float8 AS seconds
    FROM stripe_events
    WHERE
        state = 'applied'
        AND waits_for IS NULL
        AND payload_forgotten_at IS NULL
        AND settled_at >= $1::timestamptz - interval '1 minute'
        AND settled_at < $1::timestamptz
) AS e;

-- name: recharge_outcomes
-- How the recharge attempts ended that ended in the minute until $1; a zero for each outcome without any.
SELECT
    o.outcome,
    count(r.id) AS attempts
FROM unnest(ARRAY['succeeded', 'failed', 'canceled']) AS o (outcome)
LEFT JOIN recharge_attempts AS r
    ON
        o.outcome = r.state
        AND r.settled_at >= $1::timestamptz - interval '1 minute'
        AND r.settled_at < $1::timestamptz
GROUP BY o.outcome;

-- name: credits_outstanding
-- All balances together: what organizations own, less their debts. Reads every account.
SELECT coalesce(sum(balance), 0)
FROM accounts;

-- name: save
-- Store the samples of a minute.
INSERT INTO metric_samples (
    sampled_at,
    name,
    label,
    value
)
SELECT
    $1,
    s.name,
    s.label,
    s.value
FROM unnest($2::text [], $3::text [], $4::numeric []) AS s (name, label, value)
ON CONFLICT DO NOTHING;

-- name: points
-- A series between two moments, combined in steps of $4: each point stands at the end of its step.
SELECT
    s.label,
    date_bin($4::interval, s.sampled_at - interval '1 microsecond', $2) + $4::interval AS at,
    CASE $5::text
        WHEN 'sum' THEN sum(s.value)
        WHEN 'max' THEN max(s.value)
        ELSE (array_agg(s.value ORDER BY s.sampled_at DESC))[1]
    END AS value
FROM metric_samples AS s
WHERE s.name = $1 AND s.sampled_at > $2::timestamptz AND s.sampled_at <= $3::timestamptz
GROUP BY s.label, at
ORDER BY s.label, at;

-- name: purge
-- Delete samples past their retention, the oldest first; return how many. A sample is never updated, so its place in
-- the table names it.
WITH deleted AS (
    DELETE FROM metric_samples
    WHERE ctid = any(ARRAY(
        SELECT s.ctid
        FROM metric_samples AS s
        WHERE s.sampled_at < now() - $1::interval
        ORDER BY s.sampled_at
        LIMIT $2
    ))
    RETURNING name
)

SELECT count(*) FROM deleted;
