"""Items of subscriptions: a price, a quantity and the current period.

https://docs.stripe.com/api/subscription_items
"""

from dataclasses import dataclass
from typing import Any, Final

from sandbox.stripe import errors, lists, objects, periods, prices, tax_rates
from sandbox.stripe.call import Call
from sandbox.stripe.params import Choice, Items, Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

ITEM: Final = "subscription_item"
ITEMS_MAX: Final = 20
QUANTITY_MAX: Final = 999_999
PRORATION: Final = Choice(("always_invoice", "create_prorations", "none"))
_FIELDS: Final[dict[str, Any]] = {
    "metadata": Kind.METADATA,
    "price": Kind.TEXT,
    "price_data": prices.DATA,
    "quantity": Kind.INTEGER,
    "tax_rates": Kind.TEXTS,
}
NEW: Final = Items(_FIELDS)
CHANGED: Final = Items({**_FIELDS, "deleted": Kind.BOOLEAN, "id": Kind.TEXT})
_ALONE: Final[Shape] = {
    **_FIELDS,
    "expand": Kind.TEXTS,
    "payment_behavior": Kind.TEXT,
    "proration_behavior": PRORATION,
    "proration_date": Kind.INTEGER,
}
CREATE: Final[Shape] = {**_ALONE, "subscription": Kind.TEXT}
UPDATE: Final[Shape] = {**_ALONE, "off_session": Kind.BOOLEAN}
DELETE: Final[Shape] = {"proration_behavior": PRORATION, "proration_date": Kind.INTEGER}
LIST: Final[Shape] = {**lists.CURSORS, "subscription": Kind.TEXT}


@dataclass(frozen=True, slots=True)
class Change:
    """One item before and after an update; None is an item that is not there."""

    before: Json | None
    after: Json | None


def of(call: Call, subscription_id: str) -> list[Json]:
    """Read a subscription's items, oldest first."""
    found = call.store.find(ITEM, ITEMS_MAX, equal={"subscription": subscription_id})
    return found[::-1]


def retrieve(call: Call, _params: Params, item_id: str) -> Json:
    """GET /v1/subscription_items/{id}."""
    return call.load(ITEM, item_id, name="subscription item", param="item")


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/subscription_items."""
    if "subscription" not in params:
        raise errors.missing_parameter("subscription")
    equal = lists.filters(params, "subscription")
    return lists.page(call, params, ITEM, "/v1/subscription_items", equal=equal)


def build(
    call: Call, subscription: Json, price: Json, params: Params, period: tuple[int, int] | None
) -> Json:
    """Store a new item; without `period` it has the first one of its price from now."""
    start, end = period or (
        call.now,
        periods.end_of(call.now, price["recurring"], subscription["billing_cycle_anchor"]),
    )
    item = objects.new(
        ITEM,
        {
            "id": call.ids.new("si"),
            "created": call.now,
            "current_period_end": end,
            "current_period_start": start,
            "metadata": merge_metadata({}, params.get("metadata")),
            "price": price,
            "quantity": _quantity(params),
            "subscription": subscription["id"],
            "tax_rates": tax_rates.load_all(call, params.get("tax_rates", []), "tax_rates"),
        },
    )
    return call.store.add(item)


def change(call: Call, subscription: Json, params: list[Params]) -> list[Change]:
    """Apply the `items` of an update: each changes an item, adds one, or deletes one."""
    return [_change(call, subscription, item, f"items[{i}]") for i, item in enumerate(params)]


def begin_period(call: Call, item: Json, start: int, anchor: int) -> None:
    """Let an item's next period begin."""
    item |= {
        "current_period_end": periods.end_of(start, item["price"]["recurring"], anchor),
        "current_period_start": start,
    }
    call.store.save(item)


def _change(call: Call, subscription: Json, params: Params, param: str) -> Change:
    if "id" not in params:
        first = of(call, subscription["id"])[0]
        period = (first["current_period_start"], first["current_period_end"])
        price = price_of(call, params, param)
        return Change(None, build(call, subscription, price, params, period))
    before = retrieve(call, {}, params["id"])
    if before["subscription"] != subscription["id"]:
        raise errors.no_such("subscription item", params["id"], param=f"{param}[id]", status=400)
    if params.get("deleted"):
        call.store.remove(before["id"])
        return Change(before, None)
    after = {**before, "metadata": merge_metadata(before["metadata"], params.get("metadata"))}
    if "price" in params or "price_data" in params:
        after["price"] = price_of(call, params, param)
    if "quantity" in params:
        after["quantity"] = _quantity(params)
    if "tax_rates" in params:
        after["tax_rates"] = tax_rates.load_all(call, params["tax_rates"], param)
    return Change(before, call.store.save(after))


def _quantity(params: Params) -> int:
    quantity: int = params.get("quantity", 1)
    if not 0 <= quantity <= QUANTITY_MAX:
        raise errors.malformed(
            "This value must be greater than or equal to 0.",
            param="quantity",
            code="parameter_invalid_integer",
        )
    return quantity


def price_of(call: Call, params: Params, param: str) -> Json:
    """Return the recurring price that an item of a request names."""
    price = prices.resolve(call, params, param)
    if price["recurring"] is None:
        message = "The price specified is set to `type=one_time` but this field only accepts prices"
        raise errors.invalid(f"{message} with `type=recurring`.", param=f"{param}[price]")
    return price
