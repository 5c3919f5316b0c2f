-- Each loop of each worker process says that it runs, so that its absence is noticed.

CREATE TABLE worker_heartbeats (
    worker_id uuid NOT NULL,
    loop text NOT NULL,
    -- By the clock of PostgreSQL, which those who compare it have too.
    started_at timestamptz NOT NULL DEFAULT now(),
    beat_at timestamptz NOT NULL DEFAULT now(),
    -- Since when its rounds fail unexpectedly, and the class of the last error.
    failing_since timestamptz,
    error text,
    PRIMARY KEY (worker_id, loop)
)
WITH (fillfactor = 50);
