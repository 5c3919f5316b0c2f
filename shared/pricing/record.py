"""The pricing that a row keeps in its metadata, under `prepaid:pricing`."""

from __future__ import annotations

from typing import Any

from shared.money import plain
from shared.pricing.model import PricedUsage


def to_record(priced: PricedUsage) -> dict[str, Any]:
    """Return the pricing of a row as JSON; every number is the text of an exact decimal."""
    record: dict[str, Any] = {"book": priced.book, "version": priced.version}
    if priced.item.model is not None:
        record["model"] = priced.item.model
    else:
        record["meter"] = priced.item.meter
    record["measures"] = {name: plain(quantity) for name, quantity in priced.measures.items()}
    record["lines"] = [
        {
            "measure": line.measure,
            "quantity": plain(line.quantity),
            "unitPrice": plain(line.unit_price),
            "per": line.per,
            "amount": plain(line.amount),
        }
        for line in priced.lines
    ]
    for name, value in (
        ("markup", priced.markup),
        ("discount", priced.discount),
        ("minimum", priced.minimum),
    ):
        if value:
            record[name] = plain(value)
    record["total"] = plain(priced.total)
    return record
