"""The pricing of a row, in its metadata under `prepaid:pricing`, where it is hashed with the row.

Every number is the text of an exact decimal, so that no reader of JSON rounds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from shared.ledger.origin import PRICING
from shared.money import plain
from shared.pricing.model import PricedUsage


class LineRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A line of the arithmetic: quantity * unitPrice / per, before markup and discount."""

    measure: str
    quantity: str
    unit_price: str
    per: int
    amount: str


class PricingRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """How the amount of priced usage arose: the book's version, the measures and the lines.

    `total` is the sum of the lines with `markup` and `discount` in percent, at least `minimum`,
    rounded half-up to 9 decimals. What was not used is absent.
    """

    book: str
    version: int
    model: str | None = None
    meter: str | None = None
    measures: dict[str, str]
    lines: list[LineRecord]
    markup: str | None = None
    discount: str | None = None
    minimum: str | None = None
    total: str

    @property
    def name(self) -> str:
        """The model or meter."""
        return self.model or self.meter or ""

    def subtotal(self) -> Decimal:
        """Return the sum of the lines: the cost before markup and discount."""
        return sum((Decimal(line.amount) for line in self.lines), Decimal(0))


def to_record(priced: PricedUsage) -> dict[str, Any]:
    """Return the pricing of a row as JSON."""
    record: dict[str, Any] = msgspec.to_builtins(record_of(priced))
    return record


def record_of(priced: PricedUsage) -> PricingRecord:
    """Return the pricing of a row."""
    return PricingRecord(
        book=priced.book,
        version=priced.version,
        model=priced.item.model,
        meter=priced.item.meter,
        measures={name: plain(quantity) for name, quantity in priced.measures.items()},
        lines=[
            LineRecord(
                measure=line.measure,
                quantity=plain(line.quantity),
                unit_price=plain(line.unit_price),
                per=line.per,
                amount=plain(line.amount),
            )
            for line in priced.lines
        ],
        markup=plain(priced.markup) if priced.markup else None,
        discount=plain(priced.discount) if priced.discount else None,
        minimum=plain(priced.minimum) if priced.minimum else None,
        total=plain(priced.total),
    )


def read_record(metadata: Mapping[str, Any] | None) -> PricingRecord | None:
    """Return the pricing of a row by its metadata; None where its amount was not priced."""
    stored = (metadata or {}).get(PRICING)
    return None if stored is None else msgspec.convert(stored, PricingRecord)
