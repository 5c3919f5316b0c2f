-- Whether the app was told that the balance is low, so that it can be told once when it is not any more.

ALTER TABLE accounts ADD COLUMN low_announced boolean NOT NULL DEFAULT FALSE;

UPDATE accounts
SET low_announced = TRUE
WHERE balance < low_below AND last_seq > 0;

ALTER TABLE webhook_endpoints
DROP CONSTRAINT webhook_endpoints_types_known,
ADD CONSTRAINT webhook_endpoints_types_known CHECK (
    types <@ ARRAY[
        'credits.low', 'credits.recovered', 'credits.depleted', 'credits.expiring', 'purchase.completed',
        'recharge.succeeded', 'recharge.failed', 'recharge.requires_action', 'recharge.suspended',
        'dispute.opened', 'dispute.closed'
    ]
);

ALTER TABLE outbound_messages
DROP CONSTRAINT outbound_messages_type_known,
ADD CONSTRAINT outbound_messages_type_known CHECK (
    type IN (
        'credits.low', 'credits.recovered', 'credits.depleted', 'credits.expiring', 'purchase.completed',
        'recharge.succeeded', 'recharge.failed', 'recharge.requires_action', 'recharge.suspended',
        'dispute.opened', 'dispute.closed'
    )
);

-- A refusal says what was on hold and what was available: what a function returns cannot be replaced in place.
DROP FUNCTION IF EXISTS ledger_post(jsonb);

DROP FUNCTION IF EXISTS ledger_post_organization(uuid, ledger_posting []);

DROP FUNCTION IF EXISTS ledger_hold(uuid, uuid, numeric, timestamptz, text, bytea, text);

DROP FUNCTION IF EXISTS ledger_tell_balance(accounts, numeric, uuid, timestamptz);
