"""The statement of an organization: its credits in a month, by reason."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from shared.months import Month


class Line(enum.StrEnum):
    """The reasons why a balance changes, in the order of a statement."""

    PURCHASED = "purchased"
    RECHARGED = "recharged"
    GRANTED = "granted"
    USED = "used"
    EXPIRED = "expired"
    REFUNDED = "refunded"
    DISPUTED = "disputed"
    ADJUSTED = "adjusted"
    VOIDED = "voided"


@dataclass(frozen=True, slots=True)
class Total:
    """A sum in credits, with the sign of the ledger, and the number of its rows."""

    amount: Decimal = Decimal(0)
    transactions: int = 0

    def __add__(self, other: Total) -> Total:
        return Total(self.amount + other.amount, self.transactions + other.transactions)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a ledger: after the row `seq`, whose hash is `hash`; before the first row: 0."""

    seq: int
    balance: Decimal
    hash: bytes | None


@dataclass(frozen=True, slots=True)
class CategoryTotal:
    """The usage of a category; None: usage without one.

    `is_rest`: the sum of all categories beyond those that a statement lists.
    """

    category: str | None
    total: Total
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """An organization's credits in a month: opening + the lines = closing, to the last unit.

    Rows belong to the month in which they were created, in UTC. `complete`: the month has ended,
    and the statement never changes again.
    """

    organization_id: UUID
    month: Month
    complete: bool
    opening: Position
    closing: Position
    lines: dict[Line, Total]
    used: tuple[CategoryTotal, ...]

    @property
    def transactions(self) -> int:
        """The number of rows in the month; `seq` has no gaps."""
        return self.closing.seq - self.opening.seq
