"""Holds: credits reserved for usage whose cost is not known yet."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from msgspec.structs import replace

from api.framework import cursors, fields
from api.framework.fields import NumberOrNull, PageQuery, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry
from api.transactions import debit_fields, prices
from api.transactions.holds import HoldResponse, fields_of, find, hold_error, hold_id_of
from api.transactions.posting_keys import posting_key
from api.transactions.prices import Measures
from api.transactions.tags import Tags
from shared.access.model import Scope
from shared.errors import (
    BudgetExceededError,
    ConflictError,
    IdempotencyError,
    InsufficientCreditsError,
    NotFoundError,
    ValidationError,
)
from shared.ledger.holds import service, store
from shared.ledger.holds.model import HoldResult, HoldStatus, NewHold
from shared.ledger.model import PostingStatus, RefusedPosting
from shared.pricing.model import PricedUsage, UsageItem
from shared.pricing.record import to_record

SECONDS_DEFAULT = 15 * 60
CURSOR = "holds"
PATH = "/v1/billing/{organizationId}/holds"


class HoldRequest(Request):
    """Credits to reserve, for 15 minutes by default and at most 30 days.

    An `amount`, or an estimate: a `model` or a `meter` with `measures`, at today's price. `note`,
    `category`, `userId`, `metadata` and `tags` are the defaults of its captures.
    """

    amount: NumberOrNull = msgspec.field(default_factory=fields.null)
    model: str | None = None
    meter: str | None = None
    measures: Measures | None = None
    expires_in_seconds: int = SECONDS_DEFAULT
    transaction_id: str | None = None
    note: str | None = None
    category: str | None = None
    user_id: str | None = None
    metadata: dict[str, Any] | None = None
    tags: Tags | None = None


class ExtendRequest(Request):
    """The seconds from now, at most 30 days, until the hold expires."""

    expires_in_seconds: int


class HoldQuery(PageQuery):
    """A page of holds, optionally those in one state or with one `transactionId`."""

    status: HoldStatus | None = None
    transaction_id: str | None = None


class HoldPage(Response):
    """A page of holds, newest first."""

    data: list[HoldResponse]
    next_cursor: str | None


async def create(call: Call) -> Reply:
    """Reserve credits, so that no other request can use them.

    402 if the available credits do not cover the hold. The same `transactionId` (or
    `Idempotency-Key`) with the same request returns the same hold. A hold that is neither captured
    nor released expires.
    """
    body: HoldRequest = call.body
    item = _estimate(body)
    new = NewHold(
        organization_id=call.owner.id,
        id=call.id,
        amount=_amount(body) if item is None else Decimal(0),
        usage=None if item is None else prices.requested(item),
        seconds=body.expires_in_seconds,
        key=posting_key(call, body.transaction_id),
        description=body.note,
        category=body.category,
        user_id=body.user_id,
        metadata=debit_fields.metadata_of(body.metadata, body.tags, ("body",)),
        key_id=call.caller.key_id,
    )
    if item is not None:
        priced = await _price(call, item)
        if isinstance(priced, ValidationError):
            return await _replay(call, new, priced)
        new = replace(new, amount=priced.total, pricing=to_record(priced))
    async with call.api.pool.acquire() as connection, connection.transaction():
        result = await service.hold(connection, new)
    return await _reply(call, result)


def _amount(body: HoldRequest) -> Decimal:
    amount = fields.parse_number_or_none(body.amount, "body", "amount")
    if amount is None:
        raise fields.invalid(("body", "amount"), "is missing: send it, or measures to estimate it")
    return amount


def _estimate(body: HoldRequest) -> UsageItem | None:
    """Return the usage of an estimate; None for an amount. Raises ValidationError for both."""
    if body.measures is None:
        prices.check_no_subject(body.model, body.meter, ("body",))
        return None
    if body.amount != fields.NULL:
        raise fields.invalid(("body", "amount"), "is instead of measures")
    return prices.item_of(body.measures, body.model, body.meter, ("body",))


async def _price(call: Call, item: UsageItem) -> PricedUsage | ValidationError:
    (priced,) = await prices.price_all(call, [(item, call.now)])
    if not isinstance(priced, PricedUsage):
        return prices.pricing_error(priced, ("body",))
    if not priced.total:
        return fields.invalid(("body", "measures"), "cost nothing: a hold reserves an amount")
    return priced


async def _replay(call: Call, new: NewHold, error: ValidationError) -> Reply:
    """Return the hold that the same request made while its estimate had a price."""
    async with call.api.pool.acquire() as connection:
        replayed = await service.replay(connection, new)
    if replayed is None:
        raise error
    return await _reply(call, replayed)


async def list_(call: Call) -> Reply:
    """List holds, newest first."""
    query: HoldQuery = call.query
    before = cursors.decode_id(CURSOR, query.cursor)
    async with call.api.pool.acquire() as connection:
        if query.transaction_id is not None:
            found = await store.find_by_key(connection, call.owner.id, query.transaction_id)
            matches = found is not None and query.status in (None, found.status)
            holds = [found] if found is not None and matches else []
        else:
            holds = await store.page(
                connection,
                call.owner.id,
                before=before,
                status=query.status,
                limit=query.limit + 1,
            )
    page = holds[: query.limit]
    more = cursors.encode(CURSOR, page[-1].id) if len(holds) > len(page) else None
    return Reply(
        HoldPage(data=[HoldResponse(**fields_of(hold)) for hold in page], next_cursor=more)
    )


async def retrieve(call: Call) -> Reply:
    """Return one hold."""
    return Reply(HoldResponse(**fields_of(await find(call, call.path["id"]))))


async def extend(call: Call) -> Reply:
    """Let a hold expire later: no earlier than `expiresInSeconds` from now.

    It never expires earlier than it did. A hold that has ended is a 409.
    """
    body: ExtendRequest = call.body
    async with call.api.pool.acquire() as connection, connection.transaction():
        result = await service.extend(
            connection,
            call.owner.id,
            hold_id_of(call.path["id"]),
            seconds=body.expires_in_seconds,
        )
    reply = await _reply(call, result)
    return Reply(reply.body)  # where nothing changed, it is no replay


async def release(call: Call) -> Reply:
    """Release a hold without using credits. Repeating the request changes nothing."""
    async with call.api.pool.acquire() as connection, connection.transaction():
        result = await service.release(connection, call.owner.id, hold_id_of(call.path["id"]))
    return await _reply(call, result)


async def _reply(call: Call, result: HoldResult) -> Reply:
    if isinstance(result, RefusedPosting):
        raise await hold_error(call, call.path.get("id"), result)
    replayed = result.status is PostingStatus.REPLAYED
    return Reply(HoldResponse(**fields_of(result.hold)), replayed=replayed)


_TAG = "Holds"
OPERATIONS = (
    Operation(
        name="createHold",
        tag=_TAG,
        method="POST",
        path=PATH,
        handle=create,
        body=HoldRequest,
        response=HoldResponse,
        scope=Scope.USAGE,
        route_rank=3,
        retry=Retry.LEDGER,
        errors=(
            ValidationError,
            InsufficientCreditsError,
            BudgetExceededError,
            ConflictError,
            IdempotencyError,
        ),
        example={"amount": 5, "expiresInSeconds": 600, "transactionId": "job-7"},
    ),
    Operation(
        name="listHolds",
        tag=_TAG,
        method="GET",
        path=PATH,
        handle=list_,
        query=HoldQuery,
        response=HoldPage,
        scope=Scope.READ,
        or_scopes=(Scope.USAGE,),
    ),
    Operation(
        name="getHold",
        tag=_TAG,
        method="GET",
        path=f"{PATH}/{{id}}",
        handle=retrieve,
        response=HoldResponse,
        scope=Scope.READ,
        or_scopes=(Scope.USAGE,),
        errors=(NotFoundError,),
    ),
    Operation(
        name="extendHold",
        tag=_TAG,
        method="POST",
        path=f"{PATH}/{{id}}/extend",
        handle=extend,
        body=ExtendRequest,
        response=HoldResponse,
        scope=Scope.USAGE,
        retry=Retry.LEDGER,
        errors=(ValidationError, NotFoundError, ConflictError),
        example={"expiresInSeconds": 600},
    ),
    Operation(
        name="releaseHold",
        tag=_TAG,
        method="POST",
        path=f"{PATH}/{{id}}/release",
        handle=release,
        response=HoldResponse,
        scope=Scope.USAGE,
        retry=Retry.LEDGER,
        errors=(NotFoundError, ConflictError),
    ),
)
