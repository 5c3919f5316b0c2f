"""Every operation of the billing API, in the order of its document."""

from __future__ import annotations

from api import credit_transactions
from api.operation import Operation

OPERATIONS: tuple[Operation, ...] = (*credit_transactions.OPERATIONS,)
