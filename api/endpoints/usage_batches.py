"""Batches of up to 1,000 items of priced usage of one organization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from api.endpoints import credit_transactions, usage
from api.endpoints.credit_transactions import TransactionResponse
from api.framework import fields, parsing
from api.framework.fields import Request, Response
from api.framework.operation import Call, Operation, Reply, Retry
from api.transactions import permissions, priced_usage, prices
from api.transactions.batched_usage import post_usage
from api.transactions.priced_usage import Draft, Priced, UsageRequest
from api.transactions.prices import PriceResponse, Where
from shared.access.model import Scope
from shared.errors import (
    ConflictError,
    IdempotencyError,
    NotFoundError,
    PrepaidError,
    ValidationError,
)
from shared.http.envelope import envelope
from shared.ledger.model import PostedTransaction, PostingResult, PostingStatus, RefusedPosting
from shared.pricing.usage_rules import ITEMS_MAX

# Each item is parsed on its own, so that an invalid one does not affect the others.
BatchItem = Annotated[
    msgspec.Raw,
    msgspec.Meta(
        extra_json_schema={"$ref": f"#/components/schemas/{UsageRequest.__name__}"},
    ),
]


class UsageBatchRequest(Request):
    """Up to 1,000 items of usage of one organization."""

    usage: Annotated[
        list[BatchItem],
        msgspec.Meta(extra_json_schema={"minItems": 1, "maxItems": ITEMS_MAX}),
    ]


class UsageBatchResult(Response):
    """The result of one item of a batch.

    `transaction` is null for one that is refused, and for one that costs nothing.
    """

    status: PostingStatus
    transaction: TransactionResponse | None
    price: PriceResponse | None
    error: dict[str, Any] | None


class UsageBatchResponse(Response):
    """One result for each item, in the order of the request."""

    results: list[UsageBatchResult]


async def create(call: Call) -> Reply:
    """Price and post up to 1,000 items of usage of one organization.

    Each item succeeds or fails on its own, and needs a `transactionId`. The response is 200 with
    one result for each, in the order of the request.
    """
    items: Sequence[msgspec.Raw] = call.body.usage
    if not 1 <= len(items) <= ITEMS_MAX:
        raise fields.invalid(("body", "usage"), f"must hold 1 to {ITEMS_MAX} items")
    drafts = await _drafts(call, items)
    valid = [place for place, draft in drafts.items() if isinstance(draft, Draft)]
    priced = await priced_usage.price(
        call, [draft for draft in drafts.values() if isinstance(draft, Draft)]
    )
    found: dict[int, Priced | PrepaidError] = {
        place: draft for place, draft in drafts.items() if isinstance(draft, PrepaidError)
    }
    found.update(zip(valid, priced, strict=True))
    results = await _post(call, found)
    return Reply(UsageBatchResponse(results=[results[place] for place in range(len(items))]))


async def _drafts(call: Call, items: Sequence[msgspec.Raw]) -> dict[int, Draft | PrepaidError]:
    requests: dict[int, UsageRequest] = {}
    drafts: dict[int, Draft | PrepaidError] = {}
    for place, parsed in enumerate(parsing.items(items, UsageRequest, _in_batch)):
        if isinstance(parsed, PrepaidError):
            drafts[place] = parsed
        else:
            requests[place] = parsed
    known = await priced_usage.holds_of(call, list(requests.values()))
    for place, request in requests.items():
        # The header's key identifies the whole batch, whose response is stored, and no item of it.
        own = replace(call, id=call.api.make_id(), idempotency_key=None)
        try:
            hold = priced_usage.hold_of(request, known)
            drafts[place] = priced_usage.draft(own, request, hold, _in_batch(place))
        except PrepaidError as error:
            drafts[place] = error
    return drafts


async def _post(call: Call, found: dict[int, Priced | PrepaidError]) -> dict[int, UsageBatchResult]:
    results: dict[int, UsageBatchResult] = {}
    charged: dict[int, Priced] = {}
    for place, priced in sorted(found.items()):
        if isinstance(priced, PrepaidError):
            results[place] = _failed(_status_of(priced), priced)
        elif priced.row is not None:
            row = credit_transactions.row_response(priced.row, call.owner)
            results[place] = _done(PostingStatus.REPLAYED, row, priced.record)
        elif priced.is_free:
            # In the order of the request: no capture follows the one that closes its hold.
            holds = {other.posting.hold_id for other in charged.values()}
            if priced.closes_hold and priced.posting.hold_id in holds:
                results.update(await _charge(call, charged))
                charged = {}
            error = await usage.close_free(call, priced)
            results[place] = (
                _failed(PostingStatus.HOLD_CLOSED, error)
                if error
                else _done(PostingStatus.POSTED, None, priced.record)
            )
        else:
            charged[place] = priced
    results.update(await _charge(call, charged))
    return results


async def _charge(call: Call, charged: dict[int, Priced]) -> dict[int, UsageBatchResult]:
    if not charged:
        return {}
    limited = [permissions.limit_overdraft(call, priced.posting) for priced in charged.values()]
    posted = await post_usage(call, limited)
    return await _results(call, list(zip(charged.items(), posted, strict=True)))


async def _results(
    call: Call, posted: Sequence[tuple[tuple[int, Priced], PostingResult]]
) -> dict[int, UsageBatchResult]:
    results: dict[int, UsageBatchResult] = {}
    rows: list[tuple[int, Priced, PostedTransaction]] = []
    for (place, priced), result in posted:
        if isinstance(result, PostedTransaction):
            rows.append((place, priced, result))
        elif isinstance(result, RefusedPosting):
            error = await usage.refusal_error(call, priced, result, _in_batch(place))
            results[place] = _failed(result.status, error)
    records = await usage.records(call, [(priced, result) for _, priced, result in rows])
    organization = credit_transactions.organization_response(call.owner)
    for (place, priced, result), record in zip(rows, records, strict=True):
        posting = replace(priced.posting, pricing=record)
        row = credit_transactions.posted_response(posting, result, organization)
        results[place] = _done(result.status, row, record)
    return results


def _status_of(error: PrepaidError) -> PostingStatus:
    return PostingStatus.CONFLICT if isinstance(error, IdempotencyError) else PostingStatus.INVALID


def _in_batch(place: int) -> Where:
    return ("body", "usage", place)


def _done(
    status: PostingStatus, transaction: TransactionResponse | None, record: dict[str, Any]
) -> UsageBatchResult:
    return UsageBatchResult(
        status=status,
        transaction=transaction,
        price=prices.price_response(record),
        error=None,
    )


def _failed(status: PostingStatus, error: PrepaidError) -> UsageBatchResult:
    return UsageBatchResult(status=status, transaction=None, price=None, error=envelope(error))


OPERATIONS = (
    Operation(
        name="createUsageBatch",
        tag="Usage",
        method="POST",
        path=f"{usage.PATH}/batch",
        handle=create,
        body=UsageBatchRequest,
        cost_of_body=lambda batch: len(batch.usage) // 10,
        response=UsageBatchResponse,
        scope=Scope.USAGE,
        retry=Retry.STORED,
        errors=(ValidationError, NotFoundError, ConflictError, IdempotencyError),
        example={
            "usage": [
                {
                    "model": "gpt-4o",
                    "measures": {"input_tokens": 1200, "output_tokens": 300},
                    "transactionId": "call-8",
                }
            ]
        },
    ),
)
