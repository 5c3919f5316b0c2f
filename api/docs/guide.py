"""What the OpenAPI document and /docs say before the operations: where to start, and the tags."""

from __future__ import annotations

from api.endpoints.error_response import ErrorResponse
from api.framework.openapi import Guide

INTRODUCTION = """\
Prepaid credits on Stripe.

### Recommended path

1. **Organization**: `POST /v1/organizations` creates a customer with a balance of 0.
2. **Price book**: `POST /v1/price-books` stores the prices of what your customers use; \
`POST /v1/price-books/{name}/versions/{version}/activate` makes them valid.
3. **Checkout**: `POST /v1/billing/checkout` returns a payment page; redirect the browser to it. \
Credits are added when Stripe confirms the payment.
4. **Reserve and capture**: `POST /v1/billing/{organizationId}/holds` reserves what a call may use \
at most; `POST /v1/billing/{organizationId}/holds/{id}/capture` charges what it has used. Usage \
that has happened is posted with `POST /v1/billing/{organizationId}/usage`, or with a cost of your \
own with `POST /api/credit-transactions` and a negative `amount`.
5. **Statement**: `GET /v1/billing/{organizationId}/statements/{month}` returns what was bought, \
used and left in a month; `GET /api/v1/org/{slug}/credits/transactions/{id}/receipt` the address \
of Stripe's receipt or invoice.

Budgets, reports, grants, auto-recharge, browser sessions and outbound webhooks follow.

### Coming from another API

Four client shapes are served on the same ledger. A client written for one of them needs another \
host and key.

| Coming from | Shape | Paths |
|---|---|---|
| Kodexa | `credit_transactions` | `/api/credit-transactions`, `/api/credit-transactions/{id}` |
| Dreadnode | `org_credits` | `/api/v1/org/{slug}/credits/transactions` and their receipts |
| tx-agent-kit | `billing` | `/v1/billing/…`, `/v1/organizations/{organizationId}/…` |
| Respan | `transaction_list` | `/api/credit-transactions/list/`, `/api/credit-transactions/{id}/` |
"""

# In the order of the document. The endpoints name their tag.
TAGS = {
    "Organizations": "The customers who own credits.",
    "Price books": "Prices of usage, in versions that never change.",
    "Purchases": (
        "Checkout, the customer portal, card set-up and top-ups. Part of the shape `billing`."
    ),
    "Transactions": "Credits added and used, singly and in batches: `credit_transactions`.",
    "Usage": "Usage of a model or a meter, posted at the price of its price book; and quotes.",
    "Reports": (
        "Usage by model, user, category, API key, tag and day; statements of months; all"
        " transactions as CSV."
    ),
    "Holds": "Credits reserved for usage whose cost is not known yet.",
    "Budgets and alerts": (
        "Limits on what a user, a key, a category or a tag uses, and thresholds of the balance."
    ),
    "Balance and history": (
        "The balance, the history, usage totals, and what a credit paid for. Amounts named"
        " `…Decimillicents` are integers of 1e-7 credits. Part of the shape `billing`."
    ),
    "Receipts": "Stripe's hosted receipts and invoices. Part of the shape `org_credits`.",
    "Grants": "Credits with a priority and an expiry.",
    "Billing settings": "Auto-recharge rule, limits, billing email. Part of the shape `billing`.",
    "Auto-recharge": "Charge attempts and required customer actions. Part of the shape `billing`.",
    "Sessions": "Short-lived tokens for the browser of one organization's customer.",
    "Webhook endpoints": "Where Prepaid sends outbound messages.",
    "Organization transactions": (
        "Recent transactions by the organization's slug: the shape `org_credits`."
    ),
    "Transaction list": "Pages by number, in snake_case, with filters: `transaction_list`.",
    "Stripe": "The endpoint that receives Stripe's webhooks.",
}

GUIDE = Guide(INTRODUCTION, TAGS, ErrorResponse)
