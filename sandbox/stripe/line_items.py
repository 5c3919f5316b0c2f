"""What a Checkout Session sells. https://docs.stripe.com/api/checkout/sessions/line_items."""

from decimal import Decimal, InvalidOperation
from typing import Final

from sandbox.stripe import currencies, errors, objects
from sandbox.stripe.call import Call
from sandbox.stripe.params import Items, Kind, Params, merge_metadata
from sandbox.stripe.store import Json

QUANTITY_MAX: Final = 999_999
LINE_ITEM: Final = Items(
    {
        "adjustable_quantity": Kind.FREE,
        "metadata": Kind.METADATA,
        "price": Kind.TEXT,
        "price_data": {
            "currency": Kind.TEXT,
            "product": Kind.TEXT,
            "product_data": {
                "description": Kind.TEXT,
                "images": Kind.TEXTS,
                "metadata": Kind.METADATA,
                "name": Kind.TEXT,
                "tax_code": Kind.TEXT,
                "tax_details": Kind.FREE,
                "unit_label": Kind.TEXT,
            },
            "recurring": Kind.FREE,
            "tax_behavior": Kind.TEXT,
            "unit_amount": Kind.INTEGER,
            "unit_amount_decimal": Kind.TEXT,
        },
        "quantity": Kind.INTEGER,
        "tax_rates": Kind.TEXTS,
    }
)


def build_items(call: Call, given: list[Params]) -> list[Json]:
    """Make the line items with their prices and products; all must be in one currency."""
    items = [_build(call, item, f"line_items[{i}]") for i, item in enumerate(given)]
    if len({item["currency"] for item in items}) > 1:
        raise errors.invalid("All prices on a Checkout Session must have the same currency.")
    return items


def _build(call: Call, given: Params, param: str) -> Json:
    price_data = given.get("price_data")
    if price_data is None:
        if "price" in given:
            raise errors.no_such("price", given["price"], param=f"{param}[price]", status=400)
        raise errors.missing_parameter(f"{param}[price_data]")
    quantity = given.get("quantity")
    if quantity is None:
        raise errors.missing_parameter(f"{param}[quantity]")
    if not 1 <= quantity <= QUANTITY_MAX:
        raise errors.malformed(
            "This value must be greater than or equal to 1.",
            param=f"{param}[quantity]",
            code="parameter_invalid_integer",
        )
    price, product = _price(call, price_data, f"{param}[price_data]")
    total = price["unit_amount"] * quantity
    return objects.new(
        "item",
        {
            "id": call.ids.new("li"),
            "amount_subtotal": total,
            "amount_total": total,
            "currency": price["currency"],
            "description": product["name"],
            "metadata": merge_metadata({}, given.get("metadata")),
            "price": price,
            "quantity": quantity,
        },
    )


def _price(call: Call, given: Params, param: str) -> tuple[Json, Json]:
    if "currency" not in given:
        raise errors.missing_parameter(f"{param}[currency]")
    currency = currencies.check_currency(given["currency"])
    unit_amount = _unit_amount(given, param)
    product = _product(call, given, param)
    price = objects.new(
        "price",
        {
            "id": call.ids.new("price"),
            "created": call.now,
            "currency": currency,
            "product": product["id"],
            "unit_amount": unit_amount,
            "unit_amount_decimal": str(unit_amount),
        },
    )
    return call.store.add(price), product


def _product(call: Call, given: Params, param: str) -> Json:
    if "product" in given:
        return call.load("product", given["product"], param=f"{param}[product]")
    data = given.get("product_data", {})
    if not data.get("name"):
        raise errors.missing_parameter(f"{param}[product_data][name]")
    product = objects.new(
        "product",
        {
            "id": call.ids.new("prod"),
            "created": call.now,
            "description": data.get("description"),
            "metadata": merge_metadata({}, data.get("metadata")),
            "name": data["name"],
            "updated": call.now,
        },
    )
    return call.store.add(product)


def _unit_amount(given: Params, param: str) -> int:
    if "unit_amount" in given:
        amount: int = given["unit_amount"]
    elif "unit_amount_decimal" in given:
        try:
            exact = Decimal(given["unit_amount_decimal"])
        except InvalidOperation as error:
            raise errors.malformed(
                f"Invalid decimal: {given['unit_amount_decimal']}",
                param=f"{param}[unit_amount_decimal]",
            ) from error
        amount = round(exact)
    else:
        raise errors.missing_parameter(f"{param}[unit_amount]")
    if amount < 0:
        raise errors.malformed(
            "This value must be greater than or equal to 0.",
            param=f"{param}[unit_amount]",
            code="parameter_invalid_integer",
        )
    return amount
