"""What the OpenAPI document and /docs say before the operations: where to start, and the tags."""

from __future__ import annotations

from api.endpoints.error_response import ErrorResponse
from api.framework.openapi import Guide

INTRODUCTION = """\
Prepaid credits on Stripe.

### Recommended path

1. **Organization**: `POST /v1/organizations` creates a customer with a balance of 0.
2. **Checkout**: `POST /v1/billing/checkout` returns a payment page; redirect the browser to it. \
Credits are added when Stripe confirms the payment.
3. **Usage**: `POST /api/credit-transactions` with a negative `amount`. If the cost is not known \
in advance, reserve credits with `POST /v1/billing/{organizationId}/holds` and charge the actual \
cost with `POST /v1/billing/{organizationId}/holds/{id}/capture`.
4. **History**: `GET /v1/billing/{organizationId}/credits` returns the balance, \
`GET /v1/billing/{organizationId}/credits/history` the transactions.
5. **Receipt**: `GET /api/v1/org/{slug}/credits/transactions/{id}/receipt` returns the address of \
Stripe's receipt or invoice.

Grants, auto-recharge, browser sessions and outbound webhooks follow.

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
