"""Usage to be priced, as requests state it, and its price, as responses show it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from api.framework import fields
from api.framework.fields import Number, NumberOrNull, Response
from api.framework.operation import Call
from shared.errors import ValidationError
from shared.money import plain
from shared.pricing.model import PricedUsage, PricingRefusal, UsageItem
from shared.pricing.usage_rules import MEASURES_MAX

Where = tuple[str | int, ...]
_FIELD_LENGTH_MAX = 100
# With the most measures, so many take some hundredths of a second of the event loop.
ITEMS_AT_ONCE = 50

Measures = Annotated[
    dict[str, Number],
    msgspec.Meta(
        description="Quantities by measure, such as `input_tokens`, `seconds` or `images`.",
        extra_json_schema={"minProperties": 1, "maxProperties": MEASURES_MAX},
    ),
]


class PriceLineResponse(Response):
    """The amount of a measure, or of one tier of it, before markup and discount."""

    measure: str
    quantity: Number
    unit_price: Number
    per: int
    amount: Number


class PriceResponse(Response):
    """The price of usage in credits, the version of the price book, and how it arose.

    `markup` and `discount` are percentages. `total` is rounded once, half-up to 9 decimals.
    """

    book: str
    version: int
    model: str | None
    meter: str | None
    measures: dict[str, Number]
    lines: list[PriceLineResponse]
    markup: Number
    discount: Number
    minimum: NumberOrNull
    total: Number


def item_of(
    measures: Mapping[str, msgspec.Raw], model: str | None, meter: str | None, where: Where
) -> UsageItem:
    """Return the usage that a request states; raise ValidationError for what is no number."""
    if len(measures) > MEASURES_MAX:
        raise fields.invalid((*where, "measures"), f"1 to {MEASURES_MAX} measures")
    quantities = {
        name: fields.parse_number(raw, *where, "measures", name[:_FIELD_LENGTH_MAX])
        for name, raw in measures.items()
    }
    return UsageItem(model=model, meter=meter, measures=quantities)


def check_no_subject(model: str | None, meter: str | None, where: Where) -> None:
    """Raise ValidationError for a model or a meter without measures."""
    for name, value in (("model", model), ("meter", meter)):
        if value is not None:
            raise fields.invalid((*where, name), "needs measures")


def requested(item: UsageItem) -> dict[str, Any]:
    """Return usage for a digest: the same quantities in any notation are the same request."""
    quantities = {name: plain(quantity) for name, quantity in item.measures.items()}
    return {"model": item.model, "meter": item.meter, "measures": quantities}


async def price_all(
    call: Call, items: Sequence[tuple[UsageItem, datetime]]
) -> list[PricedUsage | PricingRefusal]:
    """Return the price of each item at its moment, for the organization of the request.

    Between 50 items, other requests have their turn.
    """
    places: dict[datetime, list[int]] = {}
    for place, (_, at) in enumerate(items):
        places.setdefault(at, []).append(place)
    priced: dict[int, PricedUsage | PricingRefusal] = {}
    for at, of_moment in places.items():
        for start in range(0, len(of_moment), ITEMS_AT_ONCE):
            part = of_moment[start : start + ITEMS_AT_ONCE]
            found = await _price(call, [items[place][0] for place in part], at)
            priced.update(zip(part, found, strict=True))
            if len(items) > ITEMS_AT_ONCE:
                await asyncio.sleep(0)
    return [priced[place] for place in range(len(items))]


async def _price(
    call: Call, items: Sequence[UsageItem], at: datetime
) -> list[PricedUsage | PricingRefusal]:
    # Without a connection in nearly every case: priced usage is as fast as a plain debit.
    found = call.api.pricer.price_remembered(call.owner.id, items, at)
    if found is not None:
        return found
    async with call.acquire() as connection:
        return await call.api.pricer.price(connection, call.owner.id, items, at)


def pricing_error(refusal: PricingRefusal, where: Where) -> ValidationError:
    """Return the error of usage that has no price, with its location in the request."""
    location = [*where, *(name[:_FIELD_LENGTH_MAX] for name in refusal.location)]
    name = ".".join(str(part) for part in location[1:]) or "body"
    return ValidationError(
        f"{name}: {refusal.message}",
        errors=[{"loc": location, "msg": refusal.message, "type": refusal.type}],
    )


def price_response(record: Mapping[str, Any]) -> PriceResponse:
    """Return the price of a row, from the record in its metadata."""
    return PriceResponse(
        book=record["book"],
        version=record["version"],
        model=record.get("model"),
        meter=record.get("meter"),
        measures={name: _number(text) for name, text in record["measures"].items()},
        lines=[
            PriceLineResponse(
                measure=line["measure"],
                quantity=_number(line["quantity"]),
                unit_price=_number(line["unitPrice"]),
                per=int(line["per"]),
                amount=_number(line["amount"]),
            )
            for line in record["lines"]
        ],
        markup=_number(record.get("markup", "0")),
        discount=_number(record.get("discount", "0")),
        minimum=_number(record["minimum"]) if "minimum" in record else fields.NULL,
        total=_number(record["total"]),
    )


def _number(text: str | int) -> msgspec.Raw:
    return fields.format_number(Decimal(text))
