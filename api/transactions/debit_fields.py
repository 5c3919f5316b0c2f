"""The fields that usage, priced usage and captures of holds share."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

import msgspec

from api.framework import fields
from api.framework.fields import NumberOrNull, Request
from api.framework.operation import Call
from api.transactions import metadata, tags
from api.transactions.tags import Tags
from shared.ledger.model import Posting, SystemAccount, TransactionType


class OnInsufficient(enum.StrEnum):
    """What to do with a debit that the available credits do not cover."""

    REFUSE = "refuse"
    OVERDRAFT = "overdraft"


class DebitFields(Request):
    """What is known of a debit, besides its amount."""

    transaction_id: str | None = None
    note: str | None = None
    category: str | None = None
    quantity: NumberOrNull = msgspec.field(default_factory=fields.null)
    user_id: str | None = None
    metadata: dict[str, Any] | None = None
    tags: Tags | None = None
    on_insufficient: OnInsufficient = OnInsufficient.REFUSE
    effective_on: datetime | None = None


def metadata_of(
    own: dict[str, Any] | None, own_tags: Tags | None, where: tuple[str | int, ...]
) -> dict[str, Any] | None:
    """Return the metadata to store; raise ValidationError for reserved names and wrong tags."""
    metadata.check_names(own or {}, where)
    return {**(own or {}), **tags.metadata_of(own_tags, where)} or None


def posting_of(
    call: Call, request: DebitFields, key: str, where: tuple[str | int, ...], **more: Any
) -> Posting:
    """Return the posting of a debit: usage, unless `more` makes it a capture."""
    usage = Posting(
        organization_id=call.owner.id,
        id=call.id,
        type=TransactionType.USAGE,
        counterparty=SystemAccount.REVENUE,
        key=key,
        effective_at=request.effective_on,
        description=request.note,
        category=request.category,
        quantity=fields.parse_number_or_none(request.quantity, *where, "quantity"),
        user_id=request.user_id,
        metadata=metadata_of(request.metadata, request.tags, where),
        key_id=call.caller.key_id,
        request_id=call.request_id,
    )
    return msgspec.structs.replace(usage, **more)
