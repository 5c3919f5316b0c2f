"""What a Checkout Session sells. https://docs.stripe.com/api/checkout/sessions/line_items."""

from typing import Final

from sandbox.stripe import errors, objects, prices, tax_rates
from sandbox.stripe.call import Call
from sandbox.stripe.params import Items, Kind, Params, merge_metadata
from sandbox.stripe.store import Json

QUANTITY_MAX: Final = 999_999
LINE_ITEM: Final = Items(
    {
        "adjustable_quantity": Kind.FREE,
        "metadata": Kind.METADATA,
        "price": Kind.TEXT,
        "price_data": prices.DATA,
        "quantity": Kind.INTEGER,
        "tax_rates": Kind.TEXTS,
    }
)


def build_items(call: Call, params: list[Params]) -> list[Json]:
    """Make the line items with their prices and products; all must be in one currency."""
    items = [_build(call, item, f"line_items[{i}]") for i, item in enumerate(params)]
    if len({item["currency"] for item in items}) > 1:
        raise errors.invalid("All prices on a Checkout Session must have the same currency.")
    return items


def build_rates(call: Call, params: list[Params]) -> list[list[Json]]:
    """Read the tax rates of each line item."""
    return [
        tax_rates.load_all(call, item.get("tax_rates", []), f"line_items[{i}][tax_rates]")
        for i, item in enumerate(params)
    ]


def _build(call: Call, params: Params, param: str) -> Json:
    price = prices.resolve(call, params, param)
    quantity = params.get("quantity")
    if quantity is None:
        raise errors.missing_parameter(f"{param}[quantity]")
    if not 1 <= quantity <= QUANTITY_MAX:
        raise errors.malformed(
            "This value must be greater than or equal to 1.",
            param=f"{param}[quantity]",
            code="parameter_invalid_integer",
        )
    product = call.load("product", price["product"])
    total = prices.amount(price, quantity)
    return objects.new(
        "item",
        {
            "id": call.ids.new("li"),
            "amount_subtotal": total,
            "amount_total": total,
            "currency": price["currency"],
            "description": product["name"],
            "metadata": merge_metadata({}, params.get("metadata")),
            "price": price,
            "quantity": quantity,
        },
    )
