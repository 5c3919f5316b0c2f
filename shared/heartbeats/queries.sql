-- name: beat
-- Record the heartbeats of a worker's loops: how many seconds each has been failing, and with which error.
INSERT INTO worker_heartbeats AS h (worker_id, loop, failing_since, error)
SELECT
    $1,
    b.loop,
    now() - make_interval(secs => b.failing_seconds),
    b.error
FROM unnest($2::text [], $3::float8 [], $4::text []) AS b (loop, failing_seconds, error)
ON CONFLICT (worker_id, loop) DO UPDATE
SET beat_at = now(), failing_since = excluded.failing_since, error = excluded.error;

-- name: retire
-- Delete the heartbeats of a worker that stops, so that loops which the next release no longer has are not missed. The
-- one of its loop of heartbeats stays: it says when a worker was there last.
DELETE FROM worker_heartbeats
WHERE worker_id = $1 AND loop <> 'heartbeat';

-- name: purge
-- Delete heartbeats past their retention.
DELETE FROM worker_heartbeats
WHERE beat_at < now() - $1::interval;

-- name: loops
-- For each loop: in how many workers it runs, the age of its last heartbeat, in how many it fails. A heartbeat far in
-- the future is from before a clock was set back and is ignored.
SELECT
    loop,
    count(*) FILTER (WHERE abs(extract(EPOCH FROM now() - beat_at)) <= $1::float8) AS workers,
    min(greatest(extract(EPOCH FROM now() - beat_at), 0)::float8) FILTER (
        WHERE beat_at <= now() + make_interval(secs => $1::float8)
    ) AS age_seconds,
    count(*) FILTER (
        WHERE failing_since IS NOT NULL AND abs(extract(EPOCH FROM now() - beat_at)) <= $1::float8
    ) AS failing,
    max(error) FILTER (
        WHERE failing_since IS NOT NULL AND abs(extract(EPOCH FROM now() - beat_at)) <= $1::float8
    ) AS error
FROM worker_heartbeats
GROUP BY loop
ORDER BY loop;

-- name: workers
-- How many worker processes have a fresh heartbeat.
SELECT count(DISTINCT worker_id)
FROM worker_heartbeats
WHERE abs(extract(EPOCH FROM now() - beat_at)) <= $1::float8;
