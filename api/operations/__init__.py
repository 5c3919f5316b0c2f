"""Every operation of the billing API, in the order of its document."""

from __future__ import annotations

from api.operation import Operation
from api.operations import (
    credit_transactions,
    explain,
    grants,
    holds,
    organizations,
    webhook_endpoints,
)

OPERATIONS: tuple[Operation, ...] = (
    *credit_transactions.OPERATIONS,
    *explain.OPERATIONS,
    *holds.OPERATIONS,
    *grants.OPERATIONS,
    *organizations.OPERATIONS,
    *webhook_endpoints.OPERATIONS,
)
