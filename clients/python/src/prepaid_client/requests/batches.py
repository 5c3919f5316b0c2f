"""Many transactions, or many items of priced usage, in one request."""

from __future__ import annotations

from collections.abc import Sequence

from prepaid_client import operations, types
from prepaid_client.requests.request import Request, exact, request


def transaction_batch(
    organization: str,
    transactions: Sequence[types.TransactionRequest],
    *,
    idempotency_key: str | None = None,
) -> Request[types.BatchResponse]:
    """Post up to 1,000 transactions; each succeeds or fails on its own.

    The amount of usage is negative, as in the API. The answer has one result for each, in the order
    of the request: look at its `status`. No item raises Insufficient.
    """
    adds = any(exact(transaction["amount"]) > 0 for transaction in transactions)
    return request(
        operations.CREATE_TRANSACTIONS,
        {"organizationId": organization},
        body={"transactions": [*transactions]},
        idempotency_key=idempotency_key,
        opens=organization if adds else None,
    )


def usage_batch(
    organization: str,
    usage: Sequence[types.UsageRequest],
    *,
    idempotency_key: str | None = None,
) -> Request[types.UsageBatchResponse]:
    """Price and post up to 1,000 items of usage; each needs a `transactionId`.

    The answer has one result for each, in the order of the request: look at its `status`. No item
    raises Insufficient.
    """
    return request(
        operations.CREATE_USAGE_BATCH,
        {"organizationId": organization},
        body={"usage": [*usage]},
        idempotency_key=idempotency_key,
    )
