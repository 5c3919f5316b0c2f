-- An invoice that was credited, bound to one organization by the first event that credited it. Whoever has its Stripe
-- customer later, it is never credited to another. Invoices of older releases have no row.
CREATE TABLE stripe_invoices (
    invoice_id text PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations (id),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX stripe_invoices_by_organization ON stripe_invoices (organization_id);
