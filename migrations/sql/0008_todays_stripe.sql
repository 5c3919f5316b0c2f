-- What a sale is, in whose Stripe account, what a recharge waits for, and who an ignored event waits for.

-- What a checkout sells is fixed when it is opened; `amount_minor` is its net price. NULL: an older release
-- opened it, and it buys what the rate says when it is paid.
ALTER TABLE purchases
ADD COLUMN credits numeric(38, 9),
ADD COLUMN credits_per_unit numeric,
-- One that nobody paid by then has expired, whether or not Stripe says so.
ADD COLUMN closes_at timestamptz NOT NULL DEFAULT now() + interval '25 hours',
ADD CONSTRAINT purchases_credits_positive CHECK (credits > 0),
DROP CONSTRAINT purchases_state_known,
-- `free`: its session was completed with nothing to pay.
ADD CONSTRAINT purchases_state_known CHECK (state IN ('open', 'paid', 'failed', 'expired', 'free'));

CREATE INDEX purchases_closing ON purchases (closes_at) WHERE state = 'open';

-- `amount_minor` is the gross amount, which refunds and disputes take their share of; `net_minor` is what the
-- credits were bought with. NULL: an older release bound it, or the invoice says what it brings.
ALTER TABLE stripe_payments
ADD COLUMN net_minor bigint,
ADD COLUMN invoice_id text,
ADD COLUMN stripe_account text NOT NULL DEFAULT '',
ADD CONSTRAINT stripe_payments_net_in_bounds CHECK (net_minor BETWEEN 1 AND amount_minor);

-- The Stripe account that a customer, a card or a charge belongs to; empty: the account of our key.
ALTER TABLE organizations ADD COLUMN stripe_account text NOT NULL DEFAULT '';

ALTER TABLE payment_methods ADD COLUMN stripe_account text NOT NULL DEFAULT '';

CREATE OR REPLACE VIEW charged_methods AS
SELECT DISTINCT ON (organization_id) *
FROM payment_methods
WHERE detached_at IS NULL AND mandate_active
ORDER BY organization_id, is_default DESC, as_of DESC, id;

-- The Stripe customer whose organization an ignored event waits for: it comes back when somebody has it.
ALTER TABLE stripe_events ADD COLUMN waits_for text;

CREATE INDEX stripe_events_waiting ON stripe_events (waits_for)
WHERE state = 'ignored' AND waits_for IS NOT NULL;

ALTER TABLE accounts
-- What the organization set for `credits.low`; without it, `low_below` follows the rule's threshold.
ADD COLUMN low_balance_threshold numeric(38, 9),
-- Something was taken back since the last usage: nothing is armed before the next.
ADD COLUMN recharge_waits boolean NOT NULL DEFAULT FALSE;

ALTER TABLE recharge_attempts
ADD COLUMN stripe_account text NOT NULL DEFAULT '',
-- The debit or hold whose refusal armed it: it may charge although the threshold is not crossed.
ADD COLUMN needed numeric(38, 9),
-- The rate at which it was decided what the charge buys.
ADD COLUMN credits_per_unit numeric,
-- Which idempotency key its PaymentIntent is created under: another one only after an answer that Stripe keeps.
ADD COLUMN create_key smallint NOT NULL DEFAULT 1;

-- `no_payment_method` is called `no_card` from here on; a process of the last release may still write it.
ALTER TABLE auto_recharges
DROP CONSTRAINT auto_recharges_reason_known,
ADD CONSTRAINT auto_recharges_reason_known CHECK (
    reason IN (
        'declines', 'cap', 'dispute', 'fraud_warning', 'no_card', 'no_payment_method',
        'authentication_expired', 'charge_refused', 'customer_deleted', 'operator', 'inquiry', 'refunded'
    )
);
