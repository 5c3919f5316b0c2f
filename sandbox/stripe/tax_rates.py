"""Tax rates. https://docs.stripe.com/api/tax_rates."""

from decimal import Decimal, InvalidOperation
from typing import Final

from sandbox.stripe import errors, events, lists, objects
from sandbox.stripe.call import Call
from sandbox.stripe.params import Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

CREATE: Final[Shape] = {
    "active": Kind.BOOLEAN,
    "country": Kind.TEXT,
    "description": Kind.TEXT,
    "display_name": Kind.TEXT,
    "expand": Kind.TEXTS,
    "inclusive": Kind.BOOLEAN,
    "jurisdiction": Kind.TEXT,
    "metadata": Kind.METADATA,
    "percentage": Kind.TEXT,
    "state": Kind.TEXT,
    "tax_type": Kind.TEXT,
}
LIST: Final[Shape] = lists.SHAPE
AUTOMATIC_PERCENT: Final = "20"
PERCENT_MAX: Final = 100


def create(call: Call, params: Params) -> Json:
    """POST /v1/tax_rates."""
    texts = ("country", "description", "display_name", "jurisdiction", "state", "tax_type")
    values = {name: params.get(name) or None for name in texts}
    rate = _build(
        call,
        params["percentage"],
        inclusive=params["inclusive"],
        values=values | {"metadata": merge_metadata({}, params.get("metadata"))},
    )
    events.emit(call, "tax_rate.created", rate)
    return rate


def retrieve(call: Call, _params: Params, rate_id: str) -> Json:
    """GET /v1/tax_rates/{id}."""
    return call.load("tax_rate", rate_id, name="tax rate")


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/tax_rates."""
    return lists.page(call, params, "tax_rate", "/v1/tax_rates")


def load_all(call: Call, ids: list[str], param: str) -> list[Json]:
    """Read the tax rates that a parameter names."""
    return [
        call.load("tax_rate", rate_id, name="tax rate", param=f"{param}[{i}]", status=400)
        for i, rate_id in enumerate(ids)
    ]


def automatic(call: Call, price: Json, percent: str = AUTOMATIC_PERCENT) -> Json:
    """Store the tax rate that automatic tax finds for a price.

    Stripe takes the percentage from the address; the simulator has no tax tables. A price that does
    not say so excludes tax.
    """
    inclusive = price["tax_behavior"] == "inclusive"
    return _build(call, percent, inclusive=inclusive, values={"display_name": "Sales tax"})


def _build(call: Call, percentage: str, *, inclusive: bool, values: Json) -> Json:
    try:
        percent = Decimal(percentage)
    except InvalidOperation as error:
        raise errors.malformed(f"Invalid decimal: {percentage}", param="percentage") from error
    if not 0 <= percent <= PERCENT_MAX:
        raise errors.invalid("The percentage must be between 0 and 100.", param="percentage")
    whole = percent == percent.to_integral_value()
    rate = objects.new(
        "tax_rate",
        {
            "id": call.ids.new("txr"),
            "created": call.now,
            "inclusive": inclusive,
            "percentage": int(percent) if whole else float(percent),
            **values,
        },
    )
    return call.store.add(rate)
