"""Batches of up to 1,000 transactions of one organization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from api.endpoints import credit_transactions
from api.endpoints.credit_transactions import (
    TransactionOrganization,
    TransactionRequest,
    TransactionResponse,
)
from api.framework import fields, parsing
from api.framework.fields import Request, Response
from api.framework.operation import Call, Operation, Reply, Retry
from api.transactions import manual_postings, permissions
from api.transactions.batched_usage import post_usage
from api.transactions.posting_keys import item_key
from shared.access.model import Scope
from shared.errors import (
    ConflictError,
    IdempotencyError,
    NotFoundError,
    PrepaidError,
    ValidationError,
)
from shared.http.envelope import envelope
from shared.ledger import service as ledger
from shared.ledger.model import (
    PostedTransaction,
    Posting,
    PostingResult,
    PostingStatus,
    RefusedPosting,
    TransactionType,
)

BATCH_TRANSACTIONS_MAX = 1_000

# Each item is parsed on its own, so that an invalid one does not affect the others.
BatchItem = Annotated[
    msgspec.Raw,
    msgspec.Meta(
        extra_json_schema={"$ref": f"#/components/schemas/{TransactionRequest.__name__}"},
    ),
]


class BatchRequest(Request):
    """Up to 1,000 transactions of one organization."""

    transactions: Annotated[
        list[BatchItem],
        msgspec.Meta(extra_json_schema={"minItems": 1, "maxItems": BATCH_TRANSACTIONS_MAX}),
    ]


class BatchResult(Response):
    """The result of one transaction of a batch."""

    status: PostingStatus
    transaction: TransactionResponse | None
    error: dict[str, Any] | None


class BatchResponse(Response):
    """One result for each transaction, in the order of the request."""

    results: list[BatchResult]


async def create_batch(call: Call) -> Reply:
    """Post up to 1,000 transactions of one organization.

    Each transaction succeeds or fails on its own, also for a missing scope. The response is 200
    with one result for each, in the order of the request.
    """
    items: Sequence[msgspec.Raw] = call.body.transactions
    if not 1 <= len(items) <= BATCH_TRANSACTIONS_MAX:
        raise fields.invalid(
            ("body", "transactions"), f"must hold 1 to {BATCH_TRANSACTIONS_MAX} transactions"
        )
    requests = parsing.items(items, TransactionRequest, _in_batch)
    postings = [_posting_or_error(call, request, place) for place, request in enumerate(requests)]
    valid = [posting for posting in postings if isinstance(posting, Posting)]
    limited = [permissions.limit_overdraft(call, posting) for posting in valid]
    remaining = iter(await _post(call, limited))
    organization = credit_transactions.organization_response(call.owner)
    results = [
        _batch_result(call, organization, posting, next(remaining), place)
        if isinstance(posting, Posting)
        else _failed_result(PostingStatus.INVALID, posting)
        for place, posting in enumerate(postings)
    ]
    return Reply(BatchResponse(results=results))


async def _post(call: Call, postings: Sequence[Posting]) -> Sequence[PostingResult]:
    if not postings:
        return []
    if all(posting.type is TransactionType.USAGE for posting in postings):
        return await post_usage(call, postings)
    async with call.transaction() as connection:
        results = await ledger.post(connection, postings, now=call.now)
        credited = [
            result
            for posting, result in zip(postings, results, strict=True)
            if isinstance(result, PostedTransaction)
            and result.status is PostingStatus.POSTED
            and posting.type is not TransactionType.USAGE
        ]
        if credited:
            await manual_postings.record(
                call,
                connection,
                credit_transactions.ACTION,
                credited,
                organization=call.owner,
            )
    return results


def _in_batch(place: int) -> tuple[str | int, ...]:
    return ("body", "transactions", place)


def _posting_or_error(
    call: Call, request: TransactionRequest | PrepaidError, place: int
) -> Posting | PrepaidError:
    if isinstance(request, PrepaidError):
        return request
    where = _in_batch(place)
    try:
        credit_transactions.check_named(request, call.owner, where)
        item_id = call.api.make_id()
        key = item_key(item_id, request.transaction_id, where)
        posting = credit_transactions.posting_of(call, request, item_id, key, where)
        permissions.check_scope(call, posting)
    except PrepaidError as error:
        return error
    return posting


def _batch_result(
    call: Call,
    organization: TransactionOrganization,
    posting: Posting,
    result: PostingResult,
    place: int,
) -> BatchResult:
    if isinstance(result, RefusedPosting):
        error = permissions.posting_error(call, posting, result, where=_in_batch(place))
        return _failed_result(result.status, error)
    return BatchResult(
        status=result.status,
        transaction=credit_transactions.posted_response(posting, result, organization),
        error=None,
    )


def _failed_result(status: PostingStatus, error: PrepaidError) -> BatchResult:
    return BatchResult(status=status, transaction=None, error=envelope(error))


OPERATIONS = (
    Operation(
        name="createCreditTransactions",
        tag="Transactions",
        method="POST",
        path="/v1/billing/{organizationId}/transactions/batch",
        handle=create_batch,
        body=BatchRequest,
        cost_of_body=lambda batch: len(batch.transactions) // 10,
        response=BatchResponse,
        scope=Scope.USAGE,
        or_scopes=(Scope.GRANTS,),
        retry=Retry.STORED,
        errors=(ValidationError, NotFoundError, ConflictError, IdempotencyError),
        example={"transactions": [{"amount": -0.001, "transactionId": "call-1"}]},
    ),
)
