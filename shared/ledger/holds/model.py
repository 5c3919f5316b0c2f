"""Types of holds."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from shared.ledger.model import PostingStatus, RefusedPosting


class HoldStatus(StrEnum):
    """The state of a hold. Every state but `active` is final."""

    ACTIVE = "active"
    CAPTURED = "captured"
    RELEASED = "released"
    EXPIRED = "expired"


class NewHold(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a hold: an amount in credits, for a number of seconds.

    `key` makes it idempotent within its organization. Its user, category, note and metadata are the
    defaults of its captures. `key_id`: the API key behind it, if any. `pricing`: how the amount of
    an estimate arose, and `usage` what was estimated: it takes the amount's place in the digest.
    """

    organization_id: UUID
    id: UUID
    amount: Decimal
    seconds: int
    key: str
    description: str | None = None
    user_id: str | None = None
    category: str | None = None
    metadata: dict[str, Any] | None = None
    key_id: UUID | None = None
    pricing: dict[str, Any] | None = None
    usage: Any = None


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A hold as it is stored. `captured_by` is the row that closed it, if one did."""

    organization_id: UUID
    id: UUID
    status: str
    amount: Decimal
    captured_amount: Decimal
    idempotency_key: str
    expires_at: datetime
    created_at: datetime
    closed_at: datetime | None
    description: str | None
    user_id: str | None
    category: str | None
    metadata: dict[str, Any] | None
    captured_by: UUID | None

    @property
    def remaining(self) -> Decimal:
        """The credits that it still reserves."""
        if self.status != HoldStatus.ACTIVE:
            return Decimal(0)
        return max(self.amount - self.captured_amount, Decimal(0))


class PostedHold(msgspec.Struct, frozen=True, kw_only=True):
    """A hold, changed now (`posted`) or by an earlier equal request (`replayed`)."""

    status: PostingStatus
    hold: Hold


HoldResult = PostedHold | RefusedPosting
