-- Price books: versions that never change, the moments from which they are valid, and what an organization's
-- prices depend on.

CREATE TABLE price_books (
    name text PRIMARY KEY,
    -- Versions are numbered without a gap, under the lock on this row.
    last_version integer NOT NULL DEFAULT 0,
    CONSTRAINT price_books_name_form CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$')
);

CREATE TABLE price_book_versions (
    name text NOT NULL,
    version integer NOT NULL,
    -- As text: jsonb would lose the order of the measures.
    content json NOT NULL,
    -- Of the content in its canonical form: the same content is the same version.
    digest bytea NOT NULL,
    prices integer NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    PRIMARY KEY (name, version),
    CONSTRAINT price_book_versions_book_known FOREIGN KEY (name) REFERENCES price_books (name),
    CONSTRAINT price_book_versions_content_once UNIQUE (name, digest),
    CONSTRAINT price_book_versions_from_one CHECK (version >= 1)
);

CREATE TABLE price_book_activations (
    name text NOT NULL,
    active_from timestamptz NOT NULL,
    version integer NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    -- Two versions cannot be valid at one moment.
    PRIMARY KEY (name, active_from),
    CONSTRAINT price_book_activations_version_known
    FOREIGN KEY (name, version) REFERENCES price_book_versions (name, version),
    -- What was charged keeps its prices.
    CONSTRAINT price_book_activations_not_in_the_past CHECK (active_from >= created_at)
);

-- The book of an organization from a moment on; without a row, the book `default`.
CREATE TABLE price_assignments (
    organization_id uuid NOT NULL,
    valid_from timestamptz NOT NULL,
    name text NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    PRIMARY KEY (organization_id, valid_from),
    CONSTRAINT price_assignments_organization_known FOREIGN KEY (organization_id) REFERENCES organizations (id),
    CONSTRAINT price_assignments_book_known FOREIGN KEY (name) REFERENCES price_books (name),
    CONSTRAINT price_assignments_not_in_the_past CHECK (valid_from >= created_at)
);

CREATE TABLE price_discounts (
    organization_id uuid NOT NULL,
    pattern text NOT NULL,
    valid_from timestamptz NOT NULL,
    percent numeric(7, 4) NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    PRIMARY KEY (organization_id, pattern, valid_from),
    CONSTRAINT price_discounts_organization_known FOREIGN KEY (organization_id) REFERENCES organizations (id),
    CONSTRAINT price_discounts_percent_range CHECK (percent BETWEEN 0 AND 100),
    CONSTRAINT price_discounts_not_in_the_past CHECK (valid_from >= created_at)
);

CREATE FUNCTION refuse_price_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'prices are append-only: % on % is refused', tg_op, tg_table_name
        USING ERRCODE = 'restrict_violation',
        HINT = 'Import another version and activate it.';
END
$$;

CREATE TRIGGER price_book_versions_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON price_book_versions
FOR EACH STATEMENT EXECUTE FUNCTION refuse_price_change();

CREATE TRIGGER price_book_activations_append_only
BEFORE UPDATE OR TRUNCATE ON price_book_activations
FOR EACH STATEMENT EXECUTE FUNCTION refuse_price_change();

-- An activation can be withdrawn until some seconds before its moment: processes read them every 2 seconds.
CREATE FUNCTION refuse_late_withdrawal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF old.active_from < clock_timestamp() + interval '4 seconds' THEN
        RAISE EXCEPTION 'prices are append-only: the activation of % from % is past, or near', old.name, old.active_from
            USING ERRCODE = 'restrict_violation',
            HINT = 'Activate another version.';
    END IF;
    RETURN old;
END
$$;

CREATE TRIGGER price_book_activations_withdrawn_in_time
BEFORE DELETE ON price_book_activations
FOR EACH ROW EXECUTE FUNCTION refuse_late_withdrawal();

CREATE TRIGGER price_assignments_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON price_assignments
FOR EACH STATEMENT EXECUTE FUNCTION refuse_price_change();

CREATE TRIGGER price_discounts_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON price_discounts
FOR EACH STATEMENT EXECUTE FUNCTION refuse_price_change();
