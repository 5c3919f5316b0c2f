-- Where the customer's app wants to hear of what happens here, and what it is told.

-- A row is never deleted: its messages refer to it. An endpoint that was removed is disabled.
CREATE TABLE webhook_endpoints (
    id uuid PRIMARY KEY,
    url text NOT NULL UNIQUE,
    -- In the form that Standard Webhooks gives it. It signs, so that a digest would not do.
    secret text NOT NULL,
    -- The secret before the last rotation goes on signing beside the new one until then.
    previous_secret text,
    previous_secret_until timestamptz,
    -- The types it wants; empty: all.
    types text [] NOT NULL DEFAULT '{}',
    description text,
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz,
    disabled_reason text,
    CONSTRAINT webhook_endpoints_url_form CHECK (
        url ~ '^https?://' AND length(url) <= 2000
    ),
    CONSTRAINT webhook_endpoints_secret_form CHECK (secret ~ '^whsec_[A-Za-z0-9+/]{32,}={0,2}$'),
    CONSTRAINT webhook_endpoints_previous_secret_ends CHECK (
        (previous_secret IS NULL) = (previous_secret_until IS NULL)
    ),
    CONSTRAINT webhook_endpoints_types_known CHECK (
        types <@ ARRAY[
            'credits.low', 'credits.depleted', 'credits.expiring', 'purchase.completed',
            'recharge.succeeded', 'recharge.failed', 'recharge.requires_action',
            'recharge.suspended', 'dispute.opened', 'dispute.closed'
        ]
    ),
    CONSTRAINT webhook_endpoints_description_length CHECK (length(description) <= 200),
    CONSTRAINT webhook_endpoints_disabled_with_reason CHECK (
        (disabled_at IS NULL) = (disabled_reason IS NULL)
    )
);

-- One row for each message and endpoint, written by the transaction that caused it.
CREATE TABLE outbound_messages (
    id uuid NOT NULL,
    endpoint_id uuid NOT NULL REFERENCES webhook_endpoints (id),
    organization_id uuid NOT NULL REFERENCES organizations (id),
    type text NOT NULL,
    -- The body, exactly as it is sent and signed, at every attempt the same.
    payload text NOT NULL,
    state text NOT NULL DEFAULT 'pending',
    attempts integer NOT NULL DEFAULT 0,
    -- When it may next be claimed: now for a new one, the end of the lease for a claimed one, the end
    -- of the backoff for a failed one.
    available_at timestamptz NOT NULL DEFAULT now(),
    lease_token uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- A replay begins the three days of attempts again.
    replayed_at timestamptz,
    settled_at timestamptz,
    -- What the last attempt was answered; NULL: there was no answer.
    last_status smallint,
    reason text,
    PRIMARY KEY (id, endpoint_id),
    CONSTRAINT outbound_messages_state_known CHECK (
        state IN ('pending', 'delivered', 'dead', 'discarded')
    ),
    CONSTRAINT outbound_messages_type_known CHECK (
        type IN (
            'credits.low', 'credits.depleted', 'credits.expiring', 'purchase.completed',
            'recharge.succeeded', 'recharge.failed', 'recharge.requires_action',
            'recharge.suspended', 'dispute.opened', 'dispute.closed'
        )
    ),
    CONSTRAINT outbound_messages_attempts_not_negative CHECK (attempts >= 0),
    CONSTRAINT outbound_messages_settled_with_moment CHECK (
        (state = 'pending') = (settled_at IS NULL)
    ),
    CONSTRAINT outbound_messages_lease_only_while_pending CHECK (
        lease_token IS NULL OR state = 'pending'
    ),
    CONSTRAINT outbound_messages_delivered_with_success CHECK (
        state <> 'delivered' OR (last_status IS NOT NULL AND last_status BETWEEN 200 AND 299)
    ),
    CONSTRAINT outbound_messages_reason_given CHECK (
        state NOT IN ('dead', 'discarded') OR reason IS NOT NULL
    )
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.05
);

-- A claim takes a few of each endpoint, so that none waits behind another's backlog.
CREATE INDEX outbound_messages_claimable ON outbound_messages (endpoint_id, available_at)
WHERE state = 'pending';

CREATE INDEX outbound_messages_by_state ON outbound_messages (state, created_at DESC)
WHERE state IN ('pending', 'dead');

CREATE INDEX outbound_messages_by_creation ON outbound_messages (created_at DESC, id DESC);
