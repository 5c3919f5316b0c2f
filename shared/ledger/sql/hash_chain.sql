-- The hash chain: each row of an organization contains the hash of the row before it.

-- A row as it is hashed: its own fields as a JSON array.
CREATE OR REPLACE FUNCTION ledger_row_canonical(
    p_row credit_transactions
) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT convert_to(
        json_build_array(
            p_row.organization_id,
            p_row.seq,
            p_row.id,
            p_row.type,
            p_row.amount,
            p_row.counterparty,
            p_row.balance_after,
            p_row.consumed_after,
            p_row.idempotency_key,
            encode(p_row.request_digest, 'hex'),
            p_row.effective_at AT TIME ZONE 'UTC',
            p_row.created_at AT TIME ZONE 'UTC',
            p_row.description,
            p_row.category,
            p_row.quantity,
            p_row.user_id,
            p_row.grant_id,
            p_row.hold_id,
            p_row.payment_intent_id,
            p_row.metadata
        )::text,
        'UTF8'
    )
$$;

-- The hash of a row: SHA-256 over the previous row's hash and the row, so that no row can be changed,
-- dropped or moved without breaking every hash after it.
CREATE OR REPLACE FUNCTION ledger_row_hash(
    p_previous bytea,
    p_row credit_transactions
) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT sha256(p_previous || ledger_row_canonical(p_row))
$$;

-- One link of the chain: the hash before (at first the head of the ledger) and the next row.
CREATE OR REPLACE FUNCTION ledger_chain_link(
    p_state bytea,
    p_head bytea,
    p_canonical bytea
) RETURNS bytea LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN sha256(coalesce(p_state, p_head) || p_canonical);
END
$$;

-- As a window function over rows in order of seq: the hash of each row.
CREATE OR REPLACE AGGREGATE ledger_chain(p_head bytea, p_canonical bytea) (
    sfunc = ledger_chain_link,
    stype = bytea
);

-- The hash of the terms of a grant that are in no row: its burn order and its expiry.
CREATE OR REPLACE FUNCTION ledger_terms_hash(
    p_organization_id uuid,
    p_id uuid,
    p_priority smallint,
    p_promotional boolean,
    p_expires_at timestamptz
) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT sha256(
        convert_to(
            json_build_array(
                p_organization_id,
                p_id,
                p_priority,
                p_promotional,
                p_expires_at AT TIME ZONE 'UTC'
            )::text,
            'UTF8'
        )
    )
$$;
