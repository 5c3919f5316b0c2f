"""Holds: credits reserved for usage whose cost is not known yet."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from api.framework import cursors, fields
from api.framework.fields import Number, PageQuery, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry, not_found
from api.transactions.posting_keys import posting_key
from shared.access.model import Scope
from shared.errors import (
    ConflictError,
    IdempotencyError,
    InsufficientCreditsError,
    NotFoundError,
    ValidationError,
)
from shared.ids import parse_id, transaction_public_id
from shared.ledger import keys, posting_errors, service, store
from shared.ledger.model import (
    HoldResult,
    Posting,
    PostingStatus,
    RefusedPosting,
    SystemAccount,
    TransactionType,
)

SECONDS_DEFAULT = 15 * 60
CURSOR = "holds"
PATH = "/v1/billing/{organizationId}/holds"


class HoldStatus(StrEnum):
    """The state of a hold."""

    ACTIVE = "active"
    CAPTURED = "captured"
    RELEASED = "released"
    EXPIRED = "expired"


class HoldRequest(Request):
    """Credits to reserve, for 15 minutes by default and at most 30 days."""

    amount: Number
    expires_in_seconds: int = SECONDS_DEFAULT
    transaction_id: str | None = None
    note: str | None = None


class CaptureRequest(Request):
    """The amount used. `allowExceed` allows more than the hold if the balance covers the rest."""

    amount: Number
    allow_exceed: bool = False
    category: str | None = None


class HoldQuery(PageQuery):
    """A page of holds, optionally in one state."""

    status: HoldStatus | None = None


class HoldResponse(Response):
    """A hold."""

    id: UUID
    organization_id: UUID
    status: HoldStatus
    amount: Number
    captured_amount: Number
    note: str | None
    expires_at: datetime
    created_at: datetime
    closed_at: datetime | None


class CaptureResponse(HoldResponse):
    """A captured hold, and the ledger row that used its credits."""

    capture_transaction_id: str
    balance_after: Number


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
    async with call.api.pool.acquire() as connection, connection.transaction():
        result = await service.hold(
            connection,
            call.owner.id,
            amount=fields.parse_number(body.amount, "body", "amount"),
            seconds=body.expires_in_seconds,
            key=posting_key(call, body.transaction_id),
            now=call.now,
            description=body.note,
            hold_id=call.id,
        )
    return _reply(result)


async def list_(call: Call) -> Reply:
    """List holds, newest first."""
    query: HoldQuery = call.query
    async with call.api.pool.acquire() as connection:
        rows = await store.holds(
            connection,
            call.owner.id,
            before=cursors.decode_id(CURSOR, query.cursor),
            status=query.status,
            limit=query.limit + 1,
        )
    page = rows[: query.limit]
    more = cursors.encode(CURSOR, page[-1]["id"]) if len(rows) > len(page) else None
    return Reply(
        HoldPage(data=[HoldResponse(**_fields(dict(row))) for row in page], next_cursor=more)
    )


async def retrieve(call: Call) -> Reply:
    """Return one hold."""
    return Reply(HoldResponse(**_fields(await _find(call))))


async def capture(call: Call) -> Reply:
    """Use held credits. The rest of the hold becomes available again.

    An amount up to the hold's always succeeds while the hold is active. Repeating the same capture
    returns the first response; another amount, or a hold that has ended, is a 409.
    """
    body: CaptureRequest = call.body
    amount = fields.parse_number(body.amount, "body", "amount")
    if amount <= 0:
        raise fields.invalid(("body", "amount"), "must be positive")
    hold_id = _hold_id(call)
    result = await call.api.ledger.post(
        Posting(
            organization_id=call.owner.id,
            id=call.id,
            type=TransactionType.HOLD_CAPTURE,
            counterparty=SystemAccount.REVENUE,
            key=f"{keys.HOLD}{hold_id}:capture",
            amount=-amount,
            hold_id=hold_id,
            category=body.category,
            may_overdraw=body.allow_exceed,
            key_id=call.caller.key_id,
            request_id=call.request_id,
        )
    )
    if isinstance(result, RefusedPosting):
        raise posting_errors.posting_error(result)
    response = CaptureResponse(
        **_fields(await _find(call)),
        capture_transaction_id=transaction_public_id(result.id),
        balance_after=fields.format_number(result.balance_after),
    )
    return Reply(response, replayed=result.status is PostingStatus.REPLAYED)


async def release(call: Call) -> Reply:
    """Release a hold without using credits. Repeating the request changes nothing."""
    async with call.api.pool.acquire() as connection, connection.transaction():
        result = await store.release(connection, call.owner.id, _hold_id(call))
    return _reply(result)


def _reply(result: HoldResult) -> Reply:
    if isinstance(result, RefusedPosting):
        raise posting_errors.posting_error(result)
    row = {name: getattr(result.hold, name) for name in result.hold.__struct_fields__}
    replayed = result.status is PostingStatus.REPLAYED
    return Reply(HoldResponse(**_fields(row)), replayed=replayed)


def _hold_id(call: Call) -> UUID:
    hold_id = parse_id(call.path["id"])
    if hold_id is None:
        raise not_found("hold", call.path["id"])
    return hold_id


async def _find(call: Call) -> Mapping[str, Any]:
    async with call.api.pool.acquire() as connection:
        row = await store.find_hold(connection, call.owner.id, _hold_id(call))
    if row is None:
        raise not_found("hold", call.path["id"])
    return dict(row)


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "organization_id": row["organization_id"],
        "status": HoldStatus(row["status"]),
        "amount": fields.format_number(row["amount"]),
        "captured_amount": fields.format_number(row["captured_amount"]),
        "note": row["description"],
        "expires_at": row["expires_at"],
        "created_at": row["created_at"],
        "closed_at": row["closed_at"],
    }


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
        retry=Retry.LEDGER,
        errors=(ValidationError, InsufficientCreditsError, ConflictError, IdempotencyError),
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
        name="captureHold",
        tag=_TAG,
        method="POST",
        path=f"{PATH}/{{id}}/capture",
        handle=capture,
        body=CaptureRequest,
        response=CaptureResponse,
        scope=Scope.USAGE,
        retry=Retry.LEDGER,
        errors=(ValidationError, InsufficientCreditsError, ConflictError, IdempotencyError),
        example={"amount": 3.5},
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
