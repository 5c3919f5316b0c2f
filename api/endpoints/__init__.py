"""Every operation of the billing API, in the order of its document."""

from __future__ import annotations

from api.endpoints import (
    auto_recharge,
    balances,
    billing,
    credit_transactions,
    explain,
    grants,
    holds,
    local_purchases,
    org_credits,
    organizations,
    purchases,
    sessions,
    top_ups,
    transaction_batches,
    transaction_list,
    webhook_endpoints,
)
from api.framework.operation import Operation

OPERATIONS: tuple[Operation, ...] = (
    *credit_transactions.OPERATIONS,
    *transaction_batches.OPERATIONS,
    *org_credits.OPERATIONS,
    *transaction_list.OPERATIONS,
    *billing.OPERATIONS,
    *balances.OPERATIONS,
    *purchases.OPERATIONS,
    *top_ups.OPERATIONS,
    *local_purchases.OPERATIONS,
    *sessions.OPERATIONS,
    *auto_recharge.OPERATIONS,
    *explain.OPERATIONS,
    *holds.OPERATIONS,
    *grants.OPERATIONS,
    *organizations.OPERATIONS,
    *webhook_endpoints.OPERATIONS,
)
