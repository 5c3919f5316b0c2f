"""Prices, of the catalogue and inline. https://docs.stripe.com/api/prices."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from sandbox.stripe import currencies, errors, events, lists, objects, products
from sandbox.stripe.call import Call
from sandbox.stripe.params import Choice, Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

RECURRING: Final[Shape] = {
    "interval": Choice(("day", "month", "week", "year")),
    "interval_count": Kind.INTEGER,
    "meter": Kind.TEXT,
    "usage_type": Choice(("licensed", "metered")),
}
TAX_BEHAVIOR: Final = Choice(("exclusive", "inclusive", "unspecified"))
PRODUCT_DATA: Final[Shape] = {
    "active": Kind.BOOLEAN,
    "description": Kind.TEXT,
    "id": Kind.TEXT,
    "images": Kind.TEXTS,
    "metadata": Kind.METADATA,
    "name": Kind.TEXT,
    "statement_descriptor": Kind.TEXT,
    "tax_code": Kind.TEXT,
    "tax_details": Kind.FREE,
    "unit_label": Kind.TEXT,
}
DATA: Final[dict[str, Any]] = {
    "currency": Kind.TEXT,
    "product": Kind.TEXT,
    "product_data": PRODUCT_DATA,
    "recurring": RECURRING,
    "tax_behavior": TAX_BEHAVIOR,
    "unit_amount": Kind.INTEGER,
    "unit_amount_decimal": Kind.TEXT,
}
CREATE: Final[Shape] = {
    **DATA,
    "active": Kind.BOOLEAN,
    "expand": Kind.TEXTS,
    "lookup_key": Kind.TEXT,
    "metadata": Kind.METADATA,
    "nickname": Kind.TEXT,
    "transfer_lookup_key": Kind.BOOLEAN,
}
UPDATE: Final[Shape] = {
    "active": Kind.BOOLEAN,
    "expand": Kind.TEXTS,
    "lookup_key": Kind.TEXT,
    "metadata": Kind.METADATA,
    "nickname": Kind.TEXT,
    "tax_behavior": TAX_BEHAVIOR,
}
LIST: Final[Shape] = {
    **lists.SHAPE,
    "currency": Kind.TEXT,
    "product": Kind.TEXT,
    "type": Choice(("one_time", "recurring")),
}
INTERVAL_COUNT_MAX: Final = 36


def create(call: Call, params: Params) -> Json:
    """POST /v1/prices."""
    price = from_data(call, params)
    price |= {
        "active": params.get("active", True),
        "lookup_key": params.get("lookup_key") or None,
        "metadata": merge_metadata({}, params.get("metadata")),
        "nickname": params.get("nickname") or None,
    }
    call.store.save(price)
    events.emit(call, "price.created", price)
    return price


def retrieve(call: Call, _params: Params, price_id: str) -> Json:
    """GET /v1/prices/{id}."""
    return call.load("price", price_id, param="price")


def update(call: Call, params: Params, price_id: str) -> Json:
    """POST /v1/prices/{id}: amounts never change."""
    price = call.load("price", price_id, param="price")
    price |= {n: params[n] for n in ("active", "tax_behavior") if n in params}
    price |= {n: params[n] or None for n in ("lookup_key", "nickname") if n in params}
    price["metadata"] = merge_metadata(price["metadata"], params.get("metadata"))
    call.store.save(price)
    events.emit(call, "price.updated", price, {})
    return price


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/prices."""
    equal = lists.filters(params, "currency", "product", "type")
    return lists.page(call, params, "price", "/v1/prices", equal=equal)


def resolve(call: Call, params: Params, param: str) -> Json:
    """Return the price that `price` or `price_data` of a request names; an inactive one is refused.

    https://docs.stripe.com/products-prices/manage-prices
    """
    if "price" not in params:
        if "price_data" not in params:
            raise errors.missing_parameter(f"{param}[price_data]")
        return from_data(call, params["price_data"], f"{param}[price_data]")
    found = call.store.get(params["price"])
    if found is None or found["object"] != "price":
        raise errors.no_such("price", params["price"], param=f"{param}[price]", status=400)
    if not found["active"]:
        raise errors.invalid("The price specified is inactive.", param=f"{param}[price]")
    return found


def from_data(call: Call, params: Params, param: str = "") -> Json:
    """Store an inline price with its product."""
    if "currency" not in params:
        raise errors.missing_parameter(_within(param, "currency"))
    currency = currencies.check_currency(params["currency"])
    exact = _unit_amount(params, param)
    whole = exact == exact.to_integral_value()
    recurring = _recurring(params, param)
    product = _product(call, params, param)
    price = objects.new(
        "price",
        {
            "id": call.ids.new("price"),
            "created": call.now,
            "currency": currency,
            "product": product["id"],
            "recurring": recurring,
            "tax_behavior": params.get("tax_behavior", "unspecified"),
            "type": "one_time" if recurring is None else "recurring",
            "unit_amount": int(exact) if whole else None,
            "unit_amount_decimal": f"{exact.normalize():f}",
        },
    )
    return call.store.add(price)


def amount(price: Mapping[str, Any], quantity: int) -> int:
    """Return what `quantity` of a price costs; half a cent is rounded up."""
    exact = Decimal(price["unit_amount_decimal"]) * quantity
    return int(exact.quantize(Decimal(1), rounding="ROUND_HALF_UP"))


def _within(param: str, name: str) -> str:
    return f"{param}[{name}]" if param else name


def _recurring(params: Params, param: str) -> Json | None:
    recurring = params.get("recurring")
    if not recurring:
        return None
    if "interval" not in recurring:
        raise errors.missing_parameter(f"{_within(param, 'recurring')}[interval]")
    if not 1 <= recurring.get("interval_count", 1) <= INTERVAL_COUNT_MAX:
        raise errors.invalid(
            "The maximum billing interval is three years.",
            param=f"{_within(param, 'recurring')}[interval_count]",
        )
    return {"interval_count": 1, "meter": None, "usage_type": "licensed", **recurring}


def _product(call: Call, params: Params, param: str) -> Json:
    if "product" in params:
        return products.load(call, params["product"], param=_within(param, "product"))
    data = params.get("product_data", {})
    if not data.get("name"):
        raise errors.missing_parameter(f"{_within(param, 'product_data')}[name]")
    metadata = merge_metadata({}, data.get("metadata"))
    values = {name: data[name] for name in ("description", "id", "unit_label") if name in data}
    return products.build(call, {**values, "metadata": metadata, "name": data["name"]})


def _unit_amount(params: Params, param: str) -> Decimal:
    if "unit_amount" in params:
        exact = Decimal(params["unit_amount"])
    elif "unit_amount_decimal" in params:
        exact = _decimal(params["unit_amount_decimal"], _within(param, "unit_amount_decimal"))
    else:
        raise errors.missing_parameter(_within(param, "unit_amount"))
    if exact < 0:
        raise errors.malformed(
            "This value must be greater than or equal to 0.",
            param=_within(param, "unit_amount"),
            code="parameter_invalid_integer",
        )
    return exact


def _decimal(text: str, param: str) -> Decimal:
    try:
        exact = Decimal(text)
    except InvalidOperation as error:
        raise errors.malformed(f"Invalid decimal: {text}", param=param) from error
    if not exact.is_finite():
        raise errors.malformed(f"Invalid decimal: {text}", param=param)
    return exact
