"""Grants: credits with a priority and an expiry."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from api.framework import cursors, fields
from api.framework.fields import Number, PageQuery, Request, Response
from api.framework.operation import Call, Operation, Reply, Retry, not_found
from api.transactions import manual_postings, metadata
from api.transactions.posting_keys import posting_key
from shared.access.model import Scope
from shared.errors import ConflictError, IdempotencyError, NotFoundError, ValidationError
from shared.ids import parse_id, transaction_public_id
from shared.ledger import posting_errors, rules, store
from shared.ledger.model import (
    PostedTransaction,
    Posting,
    PostingStatus,
    RefusedPosting,
    SystemAccount,
    TransactionType,
)
from shared.manual_postings import void_posting

CURSOR = "grants"
PATH = "/v1/billing/{organizationId}/grants"
PRIORITY_DEFAULT = 50


class GrantRequest(Request):
    """Credits to grant. A lower priority burns first, then the earlier expiry."""

    amount: Number
    promotional: bool = True
    priority: Annotated[int, msgspec.Meta(ge=0, le=rules.PRIORITY_MAX)] = PRIORITY_DEFAULT
    expires_at: datetime | None = None
    note: str | None = None
    transaction_id: str | None = None
    metadata: dict[str, Any] | None = None


class VoidRequest(Request):
    """The reason for voiding the grant."""

    note: str | None = None


class GrantQuery(PageQuery):
    """A page of grants. `open=true` lists only grants with remaining credits."""

    open: bool | None = None


class GrantResponse(Response):
    """A grant. `endedBy` is `expiration` or `void` if that took the remaining credits."""

    id: UUID
    organization_id: UUID
    transaction_id: str
    amount: Number
    remaining: Number
    priority: int
    promotional: bool
    expires_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None
    payment_intent_id: str | None
    created_at: datetime


class GrantPage(Response):
    """A page of grants, newest first."""

    data: list[GrantResponse]
    next_cursor: str | None


async def create(call: Call) -> Reply:
    """Grant credits with a priority and an optional expiry.

    The same `transactionId` (or `Idempotency-Key`) with the same request returns the same grant.
    Debt is paid from the grant first.
    """
    body: GrantRequest = call.body
    metadata.check_names(body.metadata or {}, ("body",))
    posting = Posting(
        organization_id=call.owner.id,
        id=call.id,
        type=TransactionType.GRANT,
        counterparty=SystemAccount.PROMOTIONS,
        key=posting_key(call, body.transaction_id),
        amount=fields.parse_number(body.amount, "body", "amount"),
        description=body.note,
        priority=body.priority,
        promotional=body.promotional,
        expires_at=body.expires_at,
        metadata=body.metadata,
        key_id=call.caller.key_id,
        request_id=call.request_id,
    )
    result = await manual_postings.post(
        call, posting, "grants.create", organization=call.owner, subject=posting.id
    )
    if isinstance(result, RefusedPosting):
        raise posting_errors.posting_error(result)
    return await _reply(call, result, result.id)


async def list_(call: Call) -> Reply:
    """List grants, newest first, both purchased and promotional."""
    query: GrantQuery = call.query
    async with call.api.pool.acquire() as connection:
        rows = await store.grants(
            connection,
            call.owner.id,
            before=cursors.decode_seq(CURSOR, query.cursor),
            is_open=query.open,
            limit=query.limit + 1,
        )
    page = rows[: query.limit]
    more = cursors.encode(CURSOR, page[-1]["seq"]) if len(rows) > len(page) else None
    return Reply(GrantPage(data=[_response(dict(row)) for row in page], next_cursor=more))


async def retrieve(call: Call) -> Reply:
    """Return one grant."""
    return Reply(_response(await _find(call, _grant_id(call))))


async def void(call: Call) -> Reply:
    """Take back the remaining credits of a grant. Repeating the request changes nothing.

    409 for a purchased grant: refund its payment at Stripe, which takes the credits back.
    """
    body: VoidRequest = call.body
    grant_id = _grant_id(call)
    # A grant's payment never changes, so reading it first is safe.
    posting = replace(
        void_posting(await _find(call, grant_id), call.id, description=body.note),
        key_id=call.caller.key_id,
        request_id=call.request_id,
    )
    result = await manual_postings.post(
        call, posting, "grants.void", organization=call.owner, subject=grant_id
    )
    if isinstance(result, RefusedPosting):
        raise posting_errors.posting_error(result)
    return await _reply(call, result, grant_id)


async def _reply(call: Call, result: PostedTransaction, grant_id: UUID) -> Reply:
    replayed = result.status is PostingStatus.REPLAYED
    return Reply(_response(await _find(call, grant_id)), replayed=replayed)


def _grant_id(call: Call) -> UUID:
    grant_id = parse_id(call.path["id"])
    if grant_id is None:
        raise not_found("grant", call.path["id"])
    return grant_id


async def _find(call: Call, grant_id: UUID) -> Mapping[str, Any]:
    async with call.api.pool.acquire() as connection:
        row = await store.find_grant(connection, call.owner.id, grant_id)
    if row is None:
        raise not_found("grant", str(grant_id))
    return dict(row)


def _response(row: Mapping[str, Any]) -> GrantResponse:
    return GrantResponse(
        id=row["id"],
        organization_id=row["organization_id"],
        transaction_id=transaction_public_id(row["transaction_id"]),
        amount=fields.format_number(row["original"]),
        remaining=fields.format_number(row["remaining"]),
        priority=row["priority"],
        promotional=row["promotional"],
        expires_at=row["expires_at"],
        ended_at=row["ended_at"],
        ended_by=row["ended_by"],
        payment_intent_id=row["payment_intent_id"],
        created_at=row["created_at"],
    )


_TAG = "Grants"
OPERATIONS = (
    Operation(
        name="createGrant",
        tag=_TAG,
        method="POST",
        path=PATH,
        handle=create,
        body=GrantRequest,
        response=GrantResponse,
        scope=Scope.GRANTS,
        retry=Retry.LEDGER,
        keyed_by="transaction_id",
        errors=(ValidationError, ConflictError, IdempotencyError),
        example={"amount": 100, "priority": 10, "expiresAt": "2031-01-01T00:00:00Z"},
    ),
    Operation(
        name="listGrants",
        tag=_TAG,
        method="GET",
        path=PATH,
        handle=list_,
        query=GrantQuery,
        response=GrantPage,
        scope=Scope.READ,
    ),
    Operation(
        name="getGrant",
        tag=_TAG,
        method="GET",
        path=f"{PATH}/{{id}}",
        handle=retrieve,
        response=GrantResponse,
        scope=Scope.READ,
        errors=(NotFoundError,),
    ),
    Operation(
        name="voidGrant",
        tag=_TAG,
        method="POST",
        path=f"{PATH}/{{id}}/void",
        handle=void,
        body=VoidRequest,
        response=GrantResponse,
        scope=Scope.GRANTS,
        retry=Retry.LEDGER,
        errors=(ConflictError, IdempotencyError, NotFoundError),
    ),
)
