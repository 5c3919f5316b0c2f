"""Subscriptions. https://docs.stripe.com/api/subscriptions."""

from typing import Any, Final

from sandbox.stripe import (
    customers,
    discounts,
    errors,
    events,
    lists,
    objects,
    payment_methods,
    subscription_items,
    tax_rates,
)
from sandbox.stripe import subscription_billing as billing
from sandbox.stripe.call import Call
from sandbox.stripe.discounts import DISCOUNTS
from sandbox.stripe.invoices import COLLECTION
from sandbox.stripe.params import Choice, Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

SUBSCRIPTION: Final = "subscription"
_FIELDS: Final[dict[str, Any]] = {
    "automatic_tax": {"enabled": Kind.BOOLEAN, "liability": Kind.FREE},
    "cancel_at_period_end": Kind.BOOLEAN,
    "collection_method": COLLECTION,
    "days_until_due": Kind.INTEGER,
    "default_payment_method": Kind.TEXT,
    "default_tax_rates": Kind.TEXTS,
    "description": Kind.TEXT,
    "discounts": DISCOUNTS,
    "expand": Kind.TEXTS,
    "metadata": Kind.METADATA,
    "off_session": Kind.BOOLEAN,
    "payment_behavior": Choice(("allow_incomplete", "default_incomplete", "error_if_incomplete")),
    "payment_settings": Kind.FREE,
    "proration_behavior": subscription_items.PRORATION,
}
CREATE: Final[Shape] = {
    **_FIELDS,
    "currency": Kind.TEXT,
    "customer": Kind.TEXT,
    "items": subscription_items.NEW,
    "trial_end": Kind.INTEGER,
    "trial_period_days": Kind.INTEGER,
}
UPDATE: Final[Shape] = {
    **_FIELDS,
    "items": subscription_items.CHANGED,
    "proration_date": Kind.INTEGER,
}
CANCEL: Final[Shape] = {
    "cancellation_details": Kind.FREE,
    "expand": Kind.TEXTS,
    "invoice_now": Kind.BOOLEAN,
    "prorate": Kind.BOOLEAN,
}
LIST: Final[Shape] = {
    **lists.SHAPE,
    "customer": Kind.TEXT,
    "status": Choice(
        (
            "active",
            "all",
            "canceled",
            "incomplete",
            "incomplete_expired",
            "past_due",
            "paused",
            "trialing",
            "unpaid",
        )
    ),
}
ENDED: Final = frozenset(("canceled", "incomplete_expired"))


def create(call: Call, params: Params) -> Json:
    """POST /v1/subscriptions: the first invoice is made, and charged unless told otherwise."""
    for name in ("customer", "items"):
        if not params.get(name):
            raise errors.missing_parameter(name)
    priced = [
        subscription_items.price_of(call, fields, f"items[{i}]")
        for i, fields in enumerate(params["items"])
    ]
    subscription, invoice = build(call, params, priced)
    behavior = params.get("payment_behavior", "allow_incomplete")
    if behavior == "default_incomplete":
        return _load(call, subscription["id"])
    refusal = billing.collect(call, invoice, off_session=params.get("off_session", False))
    if refusal is not None and (behavior == "error_if_incomplete" or not refusal.keeps_effects):
        refusal.keeps_effects = False
        raise refusal
    return _load(call, subscription["id"])


def build(call: Call, params: Params, priced: list[Json]) -> tuple[Json, Json]:
    """Store a subscription and its first invoice, which is finalized and not charged.

    `priced` has the price of each of the `items`.
    """
    customer = customers.load(call, params["customer"])
    trial_end = _trial_end(call, params)
    subscription = objects.new(
        SUBSCRIPTION,
        {
            "id": call.ids.new("sub"),
            "billing_cycle_anchor": trial_end or call.now,
            "created": call.now,
            "customer": customer["id"],
            "metadata": merge_metadata({}, params.get("metadata")),
            "start_date": call.now,
            "status": "incomplete" if trial_end is None else "trialing",
            "trial_end": trial_end,
            "trial_start": None if trial_end is None else call.now,
        },
    )
    subscription |= changes(call, subscription, params)
    call.store.add(subscription)
    trial = None if trial_end is None else (call.now, trial_end)
    made = [
        subscription_items.build(call, subscription, price, fields, trial)
        for price, fields in zip(priced, params["items"], strict=True)
    ]
    _check_items(made)
    subscription["currency"] = made[0]["price"]["currency"]
    if subscription["collection_method"] == "send_invoice" and trial_end is None:
        subscription["status"] = "active"
    show_items(call, subscription)
    call.store.save(subscription)
    events.emit(call, "customer.subscription.created", subscription)
    start = made[0]["current_period_start"]
    first = billing.Billing(reason="subscription_create", billed=made, period=(start, start))
    return subscription, make_invoice(call, subscription, first)


def make_invoice(call: Call, subscription: Json, what: billing.Billing) -> Json:
    """Make an invoice of a subscription; `latest_invoice` of the stored subscription names it."""
    invoice = billing.bill(call, subscription, what)
    stored = _load(call, subscription["id"])
    stored["latest_invoice"] = invoice["id"]
    call.store.save(stored)
    return invoice


def show_items(call: Call, subscription: Json) -> None:
    """Show a subscription's items in it; the caller saves it."""
    found = subscription_items.of(call, subscription["id"])
    url = f"/v1/subscription_items?subscription={subscription['id']}"
    subscription["items"] = objects.listed(found, url)


def retrieve(call: Call, _params: Params, subscription_id: str) -> Json:
    """GET /v1/subscriptions/{id}."""
    return _load(call, subscription_id)


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/subscriptions; canceled ones only with `status` `canceled` or `all`."""
    equal = lists.filters(params, "customer")
    status = params.get("status")
    if status not in {None, "all"}:
        equal["status"] = status
    page = lists.page(call, params, SUBSCRIPTION, "/v1/subscriptions", equal=equal)
    if status is None:
        page["data"] = [found for found in page["data"] if found["status"] != "canceled"]
    return page


def check_alive(subscription: Json) -> None:
    """Refuse to change a subscription that has ended."""
    if subscription["status"] in ENDED:
        raise errors.invalid(
            "A canceled subscription can only update its cancellation_details and metadata."
        )


def _load(call: Call, subscription_id: str) -> Json:
    return call.load(SUBSCRIPTION, subscription_id)


def _check_items(made: list[Json]) -> None:
    if len({item["price"]["currency"] for item in made}) > 1:
        raise errors.invalid("All prices must have the same currency.", param="items")
    intervals = {
        (item["price"]["recurring"]["interval"], item["price"]["recurring"]["interval_count"])
        for item in made
    }
    if len(intervals) > 1:
        raise errors.invalid("Currently, all prices must have the same interval.", param="items")


def _trial_end(call: Call, params: Params) -> int | None:
    if "trial_end" in params:
        return int(params["trial_end"])
    days = params.get("trial_period_days", 0)
    return call.now + days * 86_400 if days else None


def changes(call: Call, subscription: Json, params: Params) -> Json:
    """Return the fields that parameters set directly."""
    names = ("cancel_at_period_end", "collection_method", "days_until_due")
    found: Json = {name: params[name] for name in names if name in params}
    if "description" in params:
        found["description"] = params["description"] or None
    if "default_payment_method" in params:
        method_id = params["default_payment_method"]
        if method_id:
            payment_methods.resolve(call, method_id, customer_id=subscription["customer"])
        found["default_payment_method"] = method_id or None
    if "default_tax_rates" in params:
        found["default_tax_rates"] = tax_rates.load_all(
            call, params["default_tax_rates"], "default_tax_rates"
        )
    if "automatic_tax" in params:
        enabled = params["automatic_tax"].get("enabled", False)
        found["automatic_tax"] = {**subscription["automatic_tax"], "enabled": enabled}
    if "discounts" in params:
        about = {"customer": subscription["customer"], "subscription": subscription["id"]}
        built = discounts.build_all(call, params["discounts"], about)
        found["discounts"] = [discount["id"] for discount in built]
    return found
