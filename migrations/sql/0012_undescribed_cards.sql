-- Payment methods of which nothing is known but their id are not charged: Stripe is asked what they are.

-- When Stripe is asked for one that nothing has described: its `as_of` is the epoch.
ALTER TABLE payment_methods ADD COLUMN describe_after timestamptz NOT NULL DEFAULT now();

CREATE INDEX payment_methods_undescribed ON payment_methods (describe_after)
WHERE as_of = to_timestamp(0) AND detached_at IS NULL;

-- The number of a card is known by its fingerprint: a renewed card is looked for by it.
CREATE INDEX payment_methods_by_fingerprint ON payment_methods (organization_id, fingerprint)
WHERE fingerprint IS NOT NULL;

-- An organization may have cards of more customers than the one that is its own.
CREATE INDEX payment_methods_by_customer ON payment_methods (customer_id) WHERE detached_at IS NULL;

CREATE OR REPLACE VIEW charged_methods AS
SELECT DISTINCT ON (organization_id) *
FROM payment_methods
WHERE detached_at IS NULL AND mandate_active AND as_of > to_timestamp(0)
ORDER BY organization_id, is_default DESC, as_of DESC, id;
