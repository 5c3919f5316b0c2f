"""What the endpoints of holds share: their responses, and why a request to one is refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from api.framework import fields
from api.framework.fields import Number, Response
from api.framework.operation import Call, not_found
from api.transactions import metadata, permissions, prices, tags
from api.transactions.prices import PriceResponse
from shared.errors import PrepaidError
from shared.ids import parse_id
from shared.ledger import posting_errors
from shared.ledger.holds import service, store
from shared.ledger.holds.model import Hold, HoldStatus
from shared.ledger.model import Posting, PostingStatus, RefusedPosting
from shared.ledger.origin import PRICING


class HoldResponse(Response):
    """A hold. `remaining` is what it still reserves, `price` that of its estimate."""

    id: UUID
    organization_id: UUID
    transaction_id: str
    status: HoldStatus
    amount: Number
    captured_amount: Number
    remaining: Number
    note: str | None
    category: str | None
    user_id: str | None
    metadata: dict[str, Any]
    tags: list[str]
    price: PriceResponse | None
    expires_at: datetime
    created_at: datetime
    closed_at: datetime | None


async def hold_error(call: Call, reference: str | None, refused: RefusedPosting) -> PrepaidError:
    """Return the error of a request to a hold; where it has ended, `detail` says how."""
    if refused.status is not PostingStatus.HOLD_CLOSED or reference is None:
        return posting_errors.posting_error(refused)
    hold = await find(call, reference)
    async with call.acquire() as connection:
        return await service.closed_error(connection, hold)


def hold_id_of(reference: str) -> UUID:
    """Return the id of a hold; raise NotFoundError for what is none."""
    hold_id = parse_id(reference)
    if hold_id is None:
        raise not_found("hold", reference)
    return hold_id


async def find(call: Call, reference: str) -> Hold:
    """Return a hold of the organization, else raise NotFoundError."""
    async with call.acquire() as connection:
        hold = await store.find(connection, call.owner.id, hold_id_of(reference))
    if hold is None:
        raise not_found("hold", reference)
    return hold


async def capture_error(
    call: Call, posting: Posting, refused: RefusedPosting, where: tuple[str | int, ...] = ("body",)
) -> PrepaidError:
    """Return the error of a refused capture."""
    if refused.status is PostingStatus.HOLD_CLOSED:
        return await hold_error(call, str(posting.hold_id), refused)
    return permissions.posting_error(call, posting, refused, where)


def fields_of(hold: Hold) -> dict[str, Any]:
    """Return the fields of a HoldResponse."""
    stored = hold.metadata or {}
    return {
        "id": hold.id,
        "organization_id": hold.organization_id,
        "transaction_id": hold.idempotency_key,
        "status": HoldStatus(hold.status),
        "amount": fields.format_number(hold.amount),
        "captured_amount": fields.format_number(hold.captured_amount),
        "remaining": fields.format_number(hold.remaining),
        "note": hold.description,
        "category": hold.category,
        "user_id": hold.user_id,
        "metadata": metadata.public(stored),
        "tags": tags.of_metadata(stored),
        "price": prices.price_response(stored[PRICING]) if PRICING in stored else None,
        "expires_at": hold.expires_at,
        "created_at": hold.created_at,
        "closed_at": hold.closed_at,
    }
