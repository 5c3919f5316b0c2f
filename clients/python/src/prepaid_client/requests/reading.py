"""Balances, rows, receipts and statements."""

from __future__ import annotations

from collections.abc import Sequence

from prepaid_client import operations, types
from prepaid_client.requests.request import Request, request


def balance(organization: str) -> Request[types.CreditsResponse]:
    """Return the balance, the held and the available credits."""
    return request(operations.GET_CREDITS, {"organizationId": organization}, opens=organization)


def history(
    organization: str, *, limit: int | None = None, cursor: str | None = None
) -> Request[types.HistoryPage]:
    """Return a page of ledger rows, newest first."""
    query = {"limit": limit, "cursor": cursor}
    return request(operations.LIST_HISTORY, {"organizationId": organization}, query=query)


def explain(organization: str, transaction_id: str) -> Request[types.ExplanationResponse]:
    """Return which credits paid for a debit, or which debits a credit paid for."""
    return request(operations.EXPLAIN, {"organizationId": organization, "id": transaction_id})


def transactions(
    organization: str,
    *,
    of_types: Sequence[types.OrgCreditType] | None = None,
    limit: int | None = None,
) -> Request[list[types.OrgCreditTransaction]]:
    """Return recent transactions, newest first, with `has_receipt`."""
    query = {"transaction_type": of_types, "limit": limit}
    return request(operations.LIST_TRANSACTIONS, {"slug": organization}, query=query)


def receipt(organization: str, transaction_id: str) -> Request[types.ReceiptResponse]:
    """Return the address of Stripe's receipt or invoice for a transaction. Raises NotFound."""
    return request(operations.GET_RECEIPT, {"slug": organization, "id": transaction_id})


def statement(organization: str, month: str) -> Request[types.StatementResponse]:
    """Return the statement of a month, such as 2026-11, in UTC."""
    of = {"organizationId": organization, "month": month}
    return request(operations.GET_STATEMENT, of)
