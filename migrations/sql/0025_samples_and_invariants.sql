-- What operators look at over time, and the last result of each invariant.

-- One value a minute for each series. `sampled_at` is the end of the minute.
CREATE TABLE metric_samples (
    sampled_at timestamptz NOT NULL,
    name text NOT NULL,
    label text NOT NULL DEFAULT '',
    value numeric NOT NULL,
    CONSTRAINT metric_samples_pkey PRIMARY KEY (name, label, sampled_at)
);

-- What the cleaner deletes next.
CREATE INDEX metric_samples_by_age ON metric_samples (sampled_at);

-- `violations` is counted up to a limit; `example` is the first of them.
CREATE TABLE invariant_results (
    name text NOT NULL,
    checked_at timestamptz NOT NULL,
    ok boolean NOT NULL,
    violations integer NOT NULL,
    example jsonb,
    failing_since timestamptz,
    CONSTRAINT invariant_results_pkey PRIMARY KEY (name),
    CONSTRAINT invariant_results_ok_without_violations CHECK (ok = (violations = 0)),
    CONSTRAINT invariant_results_failing_with_example CHECK (ok = (example IS NULL)),
    CONSTRAINT invariant_results_failing_with_moment CHECK (ok = (failing_since IS NULL))
);

-- The pass under way of each invariant: when and until where it was last checked, and what the pass has found so
-- far. Some are checked a range at a time.
CREATE TABLE invariant_passes (
    name text NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT '-infinity',
    checked_through text NOT NULL DEFAULT '',
    violations integer NOT NULL DEFAULT 0,
    example jsonb,
    CONSTRAINT invariant_passes_pkey PRIMARY KEY (name)
);
