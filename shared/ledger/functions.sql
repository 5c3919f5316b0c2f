-- The one way into the ledger. Everything that changes a balance goes through ledger_post.

-- The hash of a row: SHA-256 over the previous row's hash and the row's own fields, so that no row can
-- be changed, dropped or moved without breaking every hash after it.
CREATE OR REPLACE FUNCTION ledger_row_hash(
    p_previous bytea,
    p_row credit_transactions
) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT sha256(
        p_previous || convert_to(
            jsonb_build_array(
                p_row.organization_id,
                p_row.seq,
                p_row.id,
                p_row.type,
                p_row.amount,
                p_row.counterparty,
                p_row.balance_after,
                p_row.idempotency_key,
                encode(p_row.request_digest, 'hex'),
                (extract(EPOCH FROM p_row.effective_at) * 1000000)::bigint,
                (extract(EPOCH FROM p_row.created_at) * 1000000)::bigint,
                p_row.description,
                p_row.payment_intent_id,
                p_row.metadata
            )::text,
            'UTF8'
        )
    )
$$;

-- Posts transfers of one organization, in the order given, in the caller's transaction.
--
-- A result for each: `posted`; `replayed` (this key was posted before with the same request: the first
-- row is the answer); `conflict` (this key was posted before with another request); `insufficient`
-- (the balance does not cover it); `unknown_organization`; `closed`. A refused posting leaves the rest
-- of its batch unharmed.
CREATE OR REPLACE FUNCTION ledger_post_organization(
    p_organization_id uuid,
    p_postings jsonb
) RETURNS TABLE (
    ordinal integer,
    status text,
    id uuid,
    seq bigint,
    amount numeric,
    balance_after numeric,
    created_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_account accounts;
    v_refusal text;
    v_posting record;
    v_row credit_transactions;
    v_rows credit_transactions[] := '{}';
    v_now timestamptz := now();
BEGIN
    -- The lock comes first: every statement after it sees what the holders before us committed.
    SELECT a.* INTO v_account
    FROM accounts AS a
    WHERE a.organization_id = p_organization_id
    FOR UPDATE;

    IF NOT found THEN
        v_refusal := 'unknown_organization';
    ELSIF (SELECT o.status FROM organizations AS o WHERE o.id = p_organization_id) = 'closed' THEN
        v_refusal := 'closed';
    END IF;

    FOR v_posting IN
        SELECT
            p.*,
            decode(p.digest, 'hex') AS request_digest,
            row_number() OVER (PARTITION BY p.key ORDER BY p.ordinal) > 1 AS repeated,
            t.id AS known_id,
            t.seq AS known_seq,
            t.amount AS known_amount,
            t.balance_after AS known_balance_after,
            t.created_at AS known_created_at,
            t.request_digest AS known_digest
        FROM jsonb_to_recordset(p_postings) AS p (
            ordinal integer,
            id uuid,
            type text,
            amount numeric(38, 9),
            counterparty text,
            key text,
            digest text,
            effective_at timestamptz,
            description text,
            payment_intent_id text,
            metadata jsonb,
            may_overdraw boolean
        )
        LEFT JOIN credit_transactions AS t
            ON t.organization_id = p_organization_id AND t.idempotency_key = p.key
        ORDER BY p.ordinal
    LOOP
        ordinal := v_posting.ordinal;
        amount := v_posting.amount;

        -- A key that stands twice in one batch: its first posting is not in the table yet.
        IF v_posting.repeated AND v_posting.known_id IS NULL THEN
            FOREACH v_row IN ARRAY v_rows LOOP
                IF v_row.idempotency_key = v_posting.key THEN
                    v_posting.known_id := v_row.id;
                    v_posting.known_seq := v_row.seq;
                    v_posting.known_amount := v_row.amount;
                    v_posting.known_balance_after := v_row.balance_after;
                    v_posting.known_created_at := v_row.created_at;
                    v_posting.known_digest := v_row.request_digest;
                END IF;
            END LOOP;
        END IF;

        IF v_posting.known_id IS NOT NULL THEN
            status := CASE
                WHEN v_posting.known_digest = v_posting.request_digest THEN 'replayed'
                ELSE 'conflict'
            END;
            id := v_posting.known_id;
            seq := v_posting.known_seq;
            amount := v_posting.known_amount;
            balance_after := v_posting.known_balance_after;
            created_at := v_posting.known_created_at;
            RETURN NEXT;
            CONTINUE;
        END IF;

        id := NULL;
        seq := NULL;
        created_at := NULL;
        balance_after := v_account.balance;
        IF v_refusal IS NOT NULL THEN
            status := v_refusal;
            RETURN NEXT;
            CONTINUE;
        END IF;
        IF v_posting.amount < 0
            AND NOT coalesce(v_posting.may_overdraw, FALSE)
            AND v_account.balance + v_posting.amount - v_account.held < -v_account.overdraft_limit
        THEN
            status := 'insufficient';
            RETURN NEXT;
            CONTINUE;
        END IF;

        v_account.balance := v_account.balance + v_posting.amount;
        v_account.last_seq := v_account.last_seq + 1;
        v_row.organization_id := p_organization_id;
        v_row.seq := v_account.last_seq;
        v_row.id := v_posting.id;
        v_row.type := v_posting.type;
        v_row.amount := v_posting.amount;
        v_row.counterparty := v_posting.counterparty;
        v_row.balance_after := v_account.balance;
        v_row.idempotency_key := v_posting.key;
        v_row.request_digest := v_posting.request_digest;
        v_row.effective_at := coalesce(v_posting.effective_at, v_now);
        v_row.created_at := v_now;
        v_row.description := v_posting.description;
        v_row.payment_intent_id := v_posting.payment_intent_id;
        v_row.metadata := coalesce(v_posting.metadata, '{}');
        v_row.hash := ledger_row_hash(v_account.last_hash, v_row);
        v_account.last_hash := v_row.hash;
        v_rows := array_append(v_rows, v_row);

        status := 'posted';
        id := v_row.id;
        seq := v_row.seq;
        balance_after := v_row.balance_after;
        created_at := v_now;
        RETURN NEXT;
    END LOOP;

    IF cardinality(v_rows) > 0 THEN
        INSERT INTO credit_transactions SELECT r.* FROM unnest(v_rows) AS r;
        UPDATE accounts AS a
        SET
            balance = v_account.balance,
            last_seq = v_account.last_seq,
            last_hash = v_account.last_hash,
            updated_at = v_now
        WHERE a.organization_id = p_organization_id;
    END IF;
END
$$;

-- Posts transfers of any mix of organizations in one round trip: `{"<organization id>": [posting, …]}`.
-- Accounts are locked in the order of their ids, so that two batches never wait for each other.
CREATE OR REPLACE FUNCTION ledger_post(p_postings jsonb) RETURNS TABLE (
    ordinal integer,
    status text,
    id uuid,
    seq bigint,
    amount numeric,
    balance_after numeric,
    created_at timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    v_organization record;
BEGIN
    FOR v_organization IN
        SELECT
            o.key::uuid AS organization_id,
            o.value AS postings
        FROM jsonb_each(p_postings) AS o
        ORDER BY o.key::uuid
    LOOP
        RETURN QUERY
        SELECT r.*
        FROM ledger_post_organization(v_organization.organization_id, v_organization.postings) AS r;
    END LOOP;
END
$$;
