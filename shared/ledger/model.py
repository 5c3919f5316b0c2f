"""The ledger's words: a posting asks for a transfer, a result says what became of it."""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec


class TransactionType(enum.StrEnum):
    """Every kind of transfer. The names are stored and shown to clients."""

    PURCHASE = "purchase"
    RECHARGE = "recharge"
    GRANT = "grant"
    BONUS = "bonus"
    USAGE = "usage"
    ADJUSTMENT = "adjustment"
    REFUND = "refund"
    DISPUTE = "dispute"
    DISPUTE_REVERSAL = "dispute_reversal"
    EXPIRATION = "expiration"
    VOID = "void"
    HOLD_CAPTURE = "hold_capture"


class SystemAccount(enum.StrEnum):
    """The other side of a transfer. It holds no running row, so nothing is hot but the customer."""

    STRIPE = "stripe"
    PROMOTIONS = "promotions"
    REVENUE = "revenue"
    BREAKAGE = "breakage"
    ADJUSTMENTS = "adjustments"


class PostingStatus(enum.StrEnum):
    """What became of a posting. Only `posted` changed the ledger."""

    POSTED = "posted"
    REPLAYED = "replayed"
    CONFLICT = "conflict"
    INSUFFICIENT = "insufficient"
    UNKNOWN_ORGANIZATION = "unknown_organization"
    CLOSED = "closed"


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer that is asked for.

    `amount` is in credits, at most 9 decimals, positive for what the organization gains. `key`
    makes it idempotent within its organization; `digest` (hex SHA-256) stands for the request: the
    same key with another digest is a conflict.
    """

    organization_id: UUID
    id: UUID
    type: TransactionType
    amount: Decimal
    counterparty: SystemAccount
    key: str
    digest: str
    effective_at: datetime | None = None
    description: str | None = None
    payment_intent_id: str | None = None
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    may_overdraw: bool = False


class PostingResult(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one posting; `seq` and `id` are those of the row that carries the key."""

    organization_id: UUID
    status: PostingStatus
    amount: Decimal
    balance_after: Decimal | None
    id: UUID | None
    seq: int | None
    created_at: datetime | None
