"""Every operation of the billing API: the recommended path first, then the rest."""

from __future__ import annotations

from api.endpoints import (
    alerts,
    auto_recharge,
    balances,
    billing,
    budgets,
    credit_transactions,
    explain,
    grants,
    hold_captures,
    holds,
    local_purchases,
    org_credits,
    organizations,
    purchases,
    sessions,
    statements,
    top_ups,
    transaction_batches,
    transaction_list,
    usage,
    usage_batches,
    webhook_endpoints,
)
from api.framework.operation import Operation

OPERATIONS: tuple[Operation, ...] = (
    *organizations.OPERATIONS,
    *purchases.OPERATIONS,
    *top_ups.OPERATIONS,
    *local_purchases.OPERATIONS,
    *credit_transactions.OPERATIONS,
    *transaction_batches.OPERATIONS,
    *usage.OPERATIONS,
    *usage_batches.OPERATIONS,
    *holds.OPERATIONS,
    *hold_captures.OPERATIONS,
    *balances.OPERATIONS,
    *explain.OPERATIONS,
    *statements.OPERATIONS,
    *org_credits.OPERATIONS,
    *grants.OPERATIONS,
    *billing.OPERATIONS,
    *budgets.OPERATIONS,
    *alerts.OPERATIONS,
    *auto_recharge.OPERATIONS,
    *sessions.OPERATIONS,
    *webhook_endpoints.OPERATIONS,
    *transaction_list.OPERATIONS,
)
