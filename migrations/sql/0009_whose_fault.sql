-- Whose fault it is that a recharge does not go through, and which attempts wait for it to be mended.

-- Why Stripe refuses this installation: a key, a permission, a parameter. A row stands while attempts wait for it.
CREATE TABLE stripe_alerts (
    cause text PRIMARY KEY,
    detail text NOT NULL,
    began_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
);

-- The alert that a live attempt waits for.
ALTER TABLE recharge_attempts ADD COLUMN blocked_by text;

CREATE INDEX recharge_attempts_blocked ON recharge_attempts (blocked_by)
WHERE blocked_by IS NOT NULL;

UPDATE auto_recharges
SET reason = 'no_card'
WHERE reason = 'no_payment_method';
