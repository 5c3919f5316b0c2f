-- Closes of months, and totals of usage by the dimensions that an organization turned on.

-- The finance close of a month, as it was printed first; `sha256` is the hash of `document`.
CREATE TABLE finance_closes (
    month date NOT NULL,
    closed_at timestamptz NOT NULL,
    document text NOT NULL,
    sha256 bytea NOT NULL,
    CONSTRAINT finance_closes_pkey PRIMARY KEY (month),
    CONSTRAINT finance_closes_month_is_its_first_day CHECK (extract(DAY FROM month) = 1),
    CONSTRAINT finance_closes_hash_of_document CHECK (sha256 = sha256(convert_to(document, 'UTF8')))
);

CREATE TRIGGER finance_closes_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_closes
FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change();

-- The dimensions of usage that are totalled by hour, and since when; NULL: none.
ALTER TABLE accounts
ADD COLUMN usage_dimensions text [],
ADD COLUMN usage_dimensions_since timestamptz;

-- Usage by hour and subject: the values of the dimensions that were turned on. Their number is limited in each hour;
-- the rest is one subject.
CREATE TABLE usage_breakdowns (
    organization_id uuid NOT NULL REFERENCES accounts (organization_id),
    hour timestamptz NOT NULL,
    -- Of the text of `subject`, which may be too long for an index.
    subject_sha256 bytea NOT NULL,
    subject jsonb NOT NULL,
    quantity numeric(38, 9) NOT NULL,
    cost numeric(38, 9) NOT NULL,
    transactions bigint NOT NULL,
    CONSTRAINT usage_breakdowns_pkey PRIMARY KEY (organization_id, hour, subject_sha256)
) WITH (fillfactor = 70);
