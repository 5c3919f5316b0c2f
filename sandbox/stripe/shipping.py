"""Shipping options of Checkout Sessions. https://docs.stripe.com/api/shipping_rates."""

from typing import Final

from sandbox.stripe import currencies, errors, lists, objects
from sandbox.stripe.call import Call
from sandbox.stripe.params import Choice, Items, Kind, Params, Shape, merge_metadata
from sandbox.stripe.prices import TAX_BEHAVIOR
from sandbox.stripe.store import Json

RATE: Final[Shape] = {
    "delivery_estimate": Kind.FREE,
    "display_name": Kind.TEXT,
    "fixed_amount": {"amount": Kind.INTEGER, "currency": Kind.TEXT},
    "metadata": Kind.METADATA,
    "tax_behavior": TAX_BEHAVIOR,
    "tax_code": Kind.TEXT,
    "type": Choice(("fixed_amount",)),
}
CREATE: Final[Shape] = {**RATE, "expand": Kind.TEXTS}
LIST: Final[Shape] = lists.SHAPE
OPTIONS: Final = Items({"shipping_rate": Kind.TEXT, "shipping_rate_data": RATE})


def create(call: Call, params: Params) -> Json:
    """POST /v1/shipping_rates."""
    return _build(call, params, "")


def retrieve(call: Call, _params: Params, rate_id: str) -> Json:
    """GET /v1/shipping_rates/{id}."""
    return call.load("shipping_rate", rate_id, name="shipping rate")


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/shipping_rates."""
    return lists.page(call, params, "shipping_rate", "/v1/shipping_rates")


def options(call: Call, params: list[Params]) -> list[Json]:
    """Make a session's `shipping_options`; the first is chosen until the buyer takes another."""
    rates = [_rate(call, item, f"shipping_options[{i}]") for i, item in enumerate(params)]
    return [
        {"shipping_amount": rate["fixed_amount"]["amount"], "shipping_rate": rate["id"]}
        for rate in rates
    ]


def _rate(call: Call, params: Params, param: str) -> Json:
    if "shipping_rate" in params:
        return call.load(
            "shipping_rate", params["shipping_rate"], param=f"{param}[shipping_rate]", status=400
        )
    if "shipping_rate_data" not in params:
        raise errors.missing_parameter(f"{param}[shipping_rate_data]")
    return _build(call, params["shipping_rate_data"], f"{param}[shipping_rate_data]")


def _build(call: Call, params: Params, param: str) -> Json:
    fixed = params.get("fixed_amount", {})
    for name in ("amount", "currency"):
        if name not in fixed:
            prefix = f"{param}[fixed_amount]" if param else "fixed_amount"
            raise errors.missing_parameter(f"{prefix}[{name}]")
    return call.store.add(
        objects.new(
            "shipping_rate",
            {
                "id": call.ids.new("shr"),
                "created": call.now,
                "delivery_estimate": None,
                "display_name": params.get("display_name", "Shipping"),
                "fixed_amount": {
                    "amount": fixed["amount"],
                    "currency": currencies.check_currency(fixed["currency"]),
                },
                "metadata": merge_metadata({}, params.get("metadata")),
                "tax_behavior": params.get("tax_behavior", "unspecified"),
            },
        )
    )
