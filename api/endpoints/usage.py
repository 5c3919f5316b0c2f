"""Priced usage: what it costs by the price book, posted in one commit; and quotes."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from api.endpoints import credit_transactions
from api.endpoints.credit_transactions import TransactionResponse
from api.framework import fields
from api.framework.fields import Number, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry
from api.transactions import holds, permissions, priced_usage, prices
from api.transactions.holds import HoldResponse
from api.transactions.priced_usage import Priced, UsageRequest
from api.transactions.prices import Measures, PriceResponse
from shared.access.model import Scope
from shared.errors import (
    BudgetExceededError,
    ConflictError,
    IdempotencyError,
    InsufficientCreditsError,
    NotFoundError,
    PrepaidError,
    ValidationError,
)
from shared.ledger import store as ledger
from shared.ledger.holds import service as hold_service
from shared.ledger.model import PostedTransaction, PostingStatus, RefusedPosting
from shared.ledger.origin import PRICING
from shared.pricing.model import PricedUsage
from shared.pricing.record import to_record
from shared.pricing.usage_rules import ITEMS_MAX

PATH = "/v1/billing/{organizationId}/usage"


class PostedUsageResponse(Response):
    """Posted usage: its ledger row, its price, and the hold that it was captured from.

    `transaction` is null where the usage costs nothing: the ledger has no rows of zero.
    """

    transaction: TransactionResponse | None
    price: PriceResponse
    hold: HoldResponse | None


class QuoteItem(Request):
    """Usage of a `model` or a `meter`, by measure."""

    measures: Measures
    model: str | None = None
    meter: str | None = None


class QuoteRequest(Request):
    """Usage of a `model` or a `meter`, or up to 1,000 `items` of it."""

    measures: Measures | None = None
    model: str | None = None
    meter: str | None = None
    items: (
        Annotated[
            list[QuoteItem],
            msgspec.Meta(extra_json_schema={"minItems": 1, "maxItems": ITEMS_MAX}),
        ]
        | None
    ) = None


class QuoteResponse(Response):
    """The price of each item, in their order, and their sum."""

    total: Number
    prices: list[PriceResponse]


async def create(call: Call) -> Reply:
    """Post usage at the price of the organization's price book.

    `transactionId` (or the header `Idempotency-Key`) makes the request idempotent: the same usage
    returns the first response, also after a change of prices; other usage is a 409. The row keeps
    the version of the book, the measures and the arithmetic. Usage is priced at `effectiveOn`, or
    now: never later than now, and no earlier than an hour ago unless the key has the scope
    `grants`. An unknown model or measure is a 422 and never free. 402 if the available credits do
    not cover the price; with `onInsufficient: "overdraft"` it is posted anyway.
    """
    body: UsageRequest = call.body
    hold = priced_usage.hold_of(body, await priced_usage.holds_of(call, [body]))
    (priced,) = await priced_usage.price(call, [priced_usage.draft(call, body, hold, ("body",))])
    if isinstance(priced, PrepaidError):
        raise priced
    if priced.row is not None:
        transaction = credit_transactions.row_response(priced.row, call.owner)
        return Reply(await _response(call, priced, transaction), replayed=True)
    if priced.is_free:
        return await _free(call, priced)
    posting = priced.posting
    result = await call.api.ledger.post(permissions.limit_overdraft(call, posting))
    if isinstance(result, RefusedPosting):
        raise await refusal_error(call, priced, result, ("body",))
    (record,) = await records(call, [(priced, result)])
    posted = Priced(replace(posting, pricing=record), record)
    organization = credit_transactions.organization_response(call.owner)
    transaction = credit_transactions.posted_response(posted.posting, result, organization)
    response = await _response(call, posted, transaction)
    return Reply(response, replayed=result.status is PostingStatus.REPLAYED)


async def _free(call: Call, priced: Priced) -> Reply:
    """Post nothing; close the hold of a capture."""
    if error := await close_free(call, priced):
        raise error
    return Reply(await _response(call, priced, None))


async def close_free(call: Call, priced: Priced) -> PrepaidError | None:
    """Close the hold of final usage that costs nothing; return why it cannot be closed."""
    hold_id = priced.posting.hold_id
    if hold_id is None or not priced.closes_hold:
        return None
    async with call.transaction() as connection:
        result = await hold_service.capture_nothing(connection, call.owner.id, hold_id)
    if isinstance(result, RefusedPosting):
        return await holds.hold_error(call, str(hold_id), result)
    return None


async def _response(
    call: Call, priced: Priced, transaction: TransactionResponse | None
) -> PostedUsageResponse:
    hold_id = priced.posting.hold_id
    hold = None if hold_id is None else await holds.find(call, str(hold_id))
    return PostedUsageResponse(
        transaction=transaction,
        price=prices.price_response(priced.record),
        hold=None if hold is None else HoldResponse(**holds.fields_of(hold)),
    )


async def refusal_error(
    call: Call, priced: Priced, refused: RefusedPosting, where: prices.Where
) -> PrepaidError:
    """Return the error of refused usage."""
    if priced.posting.hold_id is not None:
        return await holds.capture_error(call, priced.posting, refused, where)
    return permissions.posting_error(call, priced.posting, refused, where)


async def records(
    call: Call, posted: list[tuple[Priced, PostedTransaction]]
) -> list[dict[str, Any]]:
    """Return the pricing of rows: the one they keep where they were posted before."""
    replayed = [p.posting.key for p, r in posted if r.status is PostingStatus.REPLAYED]
    if not replayed:
        return [priced.record for priced, _ in posted]
    async with call.acquire() as connection:
        rows = await ledger.find_by_keys(connection, call.owner.id, replayed)
    return [
        rows[priced.posting.key]["metadata"][PRICING]
        if result.status is PostingStatus.REPLAYED
        else priced.record
        for priced, result in posted
    ]


async def quote(call: Call) -> Reply:
    """Return the price of usage, and post nothing.

    An unknown model or measure of any item is a 422 with its location.
    """
    body: QuoteRequest = call.body
    stated = _stated(body)
    items = [prices.item_of(item.measures, item.model, item.meter, where) for item, where in stated]
    found = await prices.price_all(call, [(item, call.now) for item in items])
    priced: list[PricedUsage] = []
    for price, (_, where) in zip(found, stated, strict=True):
        if not isinstance(price, PricedUsage):
            raise prices.pricing_error(price, where)
        priced.append(price)
    return Reply(
        QuoteResponse(
            total=fields.format_number(sum((price.total for price in priced), Decimal(0))),
            prices=[prices.price_response(to_record(price)) for price in priced],
        )
    )


def _stated(body: QuoteRequest) -> list[tuple[QuoteItem, prices.Where]]:
    if body.items is None:
        if body.measures is None:
            raise fields.invalid(("body", "measures"), "is missing")
        one = QuoteItem(measures=body.measures, model=body.model, meter=body.meter)
        return [(one, ("body",))]
    if (body.measures, body.model, body.meter) != (None, None, None):
        raise fields.invalid(("body", "items"), "is instead of model, meter and measures")
    if not 1 <= len(body.items) <= ITEMS_MAX:
        raise fields.invalid(("body", "items"), f"must hold 1 to {ITEMS_MAX} items")
    return [(item, ("body", "items", place)) for place, item in enumerate(body.items)]


_EXAMPLE = {"model": "gpt-4o", "measures": {"input_tokens": 1200, "output_tokens": 300}}
OPERATIONS = (
    Operation(
        name="createUsage",
        tag="Usage",
        method="POST",
        path=PATH,
        handle=create,
        body=UsageRequest,
        response=PostedUsageResponse,
        scope=Scope.USAGE,
        route_rank=2,
        retry=Retry.LEDGER,
        keyed_by="transaction_id",
        errors=(
            ValidationError,
            InsufficientCreditsError,
            BudgetExceededError,
            NotFoundError,
            ConflictError,
            IdempotencyError,
        ),
        example={**_EXAMPLE, "transactionId": "call-7", "userId": "jo"},
    ),
    Operation(
        name="quoteUsage",
        tag="Usage",
        method="POST",
        path=f"{PATH}/quote",
        handle=quote,
        body=QuoteRequest,
        cost_of_body=lambda quote: len(quote.items or ()) // 10,
        response=QuoteResponse,
        scope=Scope.READ,
        or_scopes=(Scope.USAGE,),
        errors=(ValidationError, NotFoundError),
        example=_EXAMPLE,
    ),
)
