"""What happens to a subscription after its creation: updates, cycles, the end.

https://docs.stripe.com/billing/subscriptions/change
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Final

from sandbox.stripe import errors, events, lists, objects, subscription_items, subscriptions
from sandbox.stripe import subscription_billing as billing
from sandbox.stripe.call import Call
from sandbox.stripe.params import Params, merge_metadata
from sandbox.stripe.store import Json

UPDATED: Final = "customer.subscription.updated"


@dataclass(frozen=True, slots=True)
class Proration:
    """How an update is billed and from which moment."""

    behavior: str
    at: int


def update(call: Call, params: Params, subscription_id: str) -> Json:
    """POST /v1/subscriptions/{id}; a change of items is prorated."""
    subscription = subscriptions.retrieve(call, {}, subscription_id)
    subscriptions.check_alive(subscription)
    before = deepcopy(subscription)
    subscription |= subscriptions.changes(call, subscription, params)
    subscription["metadata"] = merge_metadata(subscription["metadata"], params.get("metadata"))
    if "cancel_at_period_end" in params:
        _plan_end(call, subscription, wanted=params["cancel_at_period_end"])
    call.store.save(subscription)
    changes = subscription_items.change(call, subscription, params.get("items", []))
    if any(change.before != change.after for change in changes):
        proration = Proration(
            params.get("proration_behavior", "create_prorations"),
            params.get("proration_date", call.now),
        )
        _rebill(call, subscription, changes, proration)
    return _tell(call, before)


def create_item(call: Call, params: Params) -> Json:
    """POST /v1/subscription_items."""
    if "subscription" not in params:
        raise errors.missing_parameter("subscription")
    known = {item["id"] for item in subscription_items.of(call, params["subscription"])}
    _update_item(call, params, params["subscription"], {})
    items = subscription_items.of(call, params["subscription"])
    return next(item for item in items if item["id"] not in known)


def update_item(call: Call, params: Params, item_id: str) -> Json:
    """POST /v1/subscription_items/{id}."""
    item = subscription_items.retrieve(call, {}, item_id)
    _update_item(call, params, item["subscription"], {"id": item_id})
    return subscription_items.retrieve(call, {}, item_id)


def delete_item(call: Call, params: Params, item_id: str) -> Json:
    """DELETE /v1/subscription_items/{id}: the last one cannot go."""
    item = subscription_items.retrieve(call, {}, item_id)
    if len(subscription_items.of(call, item["subscription"])) == 1:
        raise errors.invalid("A subscription must have at least one active plan.")
    _update_item(call, params, item["subscription"], {"id": item_id, "deleted": True})
    return objects.new("deleted_subscription_item", {"id": item_id})


def cancel(call: Call, params: Params, subscription_id: str) -> Json:
    """DELETE /v1/subscriptions/{id}: at once; `prorate` gives back what is left of the period."""
    subscription = subscriptions.retrieve(call, {}, subscription_id)
    if subscription["status"] in subscriptions.ENDED:
        raise errors.no_such("subscription", subscription_id)
    if params.get("prorate"):
        for item in subscription_items.of(call, subscription_id):
            billing.credit_unused(call, subscription, item, call.now)
    if params.get("invoice_now"):
        _invoice_pending(call, subscription, "subscription_update", call.now)
    return _end(call, subscription_id)


def end_all(call: Call, customer_id: str) -> None:
    """End the subscriptions of a customer who is deleted."""
    equal = {"customer": customer_id}
    for found in call.store.find("subscription", lists.LIMIT_MAX, equal=equal):
        if found["status"] not in subscriptions.ENDED:
            _end(call, found["id"])


def cycle(call: Call, subscription_id: str) -> Json:
    """Let the current period end and bill the next; returns the invoice, or the ended subscription.

    A declined card leaves the invoice open and the subscription `past_due`.
    """
    subscription = subscriptions.retrieve(call, {}, subscription_id)
    if subscription["status"] not in {"active", "past_due", "trialing"}:
        raise errors.invalid(f"This subscription has no next period: {subscription['status']}.")
    if subscription["cancel_at_period_end"]:
        return _end(call, subscription_id)
    before = deepcopy(subscription)
    items = subscription_items.of(call, subscription_id)
    previous = (items[0]["current_period_start"], items[0]["current_period_end"])
    for item in items:
        anchor = subscription["billing_cycle_anchor"]
        subscription_items.begin_period(call, item, item["current_period_end"], anchor)
    if subscription["status"] == "trialing":
        subscription["status"] = "active"
    call.store.save(subscription)
    _tell(call, before)
    what = billing.Billing(reason="subscription_cycle", billed=items, period=previous)
    invoice = subscriptions.make_invoice(call, subscription, what)
    billing.collect(call, invoice, off_session=True)
    return call.load("invoice", invoice["id"])


def _update_item(call: Call, params: Params, subscription_id: str, named: Params) -> None:
    names = ("metadata", "price", "price_data", "quantity", "tax_rates")
    item = {name: params[name] for name in names if name in params}
    about = ("proration_behavior", "proration_date")
    fields = {name: params[name] for name in about if name in params}
    update(call, fields | {"items": [item | named]}, subscription_id)


def _rebill(
    call: Call, subscription: Json, changes: list[subscription_items.Change], proration: Proration
) -> None:
    if _new_interval(changes):
        _restart(call, subscription, changes, proration)
        return
    if proration.behavior == "none":
        return
    for change in changes:
        billing.prorate(call, subscription, change, proration.at)
    if proration.behavior == "always_invoice":
        _invoice_pending(call, subscription, "subscription_update", proration.at)


def _new_interval(changes: list[subscription_items.Change]) -> bool:
    return any(
        change.before is not None
        and change.after is not None
        and any(
            change.before["price"]["recurring"][name] != change.after["price"]["recurring"][name]
            for name in ("interval", "interval_count")
        )
        for change in changes
    )


def _restart(
    call: Call, subscription: Json, changes: list[subscription_items.Change], proration: Proration
) -> None:
    """Begin a new period now: another interval is billed at once, whatever the behavior."""
    for change in changes:
        if change.before is not None and proration.behavior != "none":
            billing.credit_unused(call, subscription, change.before, proration.at)
    subscription["billing_cycle_anchor"] = proration.at
    call.store.save(subscription)
    items = subscription_items.of(call, subscription["id"])
    for item in items:
        subscription_items.begin_period(call, item, proration.at, proration.at)
    what = billing.Billing(
        reason="subscription_update", billed=items, period=(proration.at, proration.at)
    )
    invoice = subscriptions.make_invoice(call, subscription, what)
    billing.collect(call, invoice, off_session=True)


def _invoice_pending(call: Call, subscription: Json, reason: str, at: int) -> None:
    what = billing.Billing(reason=reason, billed=[], period=(at, at))
    invoice = subscriptions.make_invoice(call, subscription, what)
    billing.collect(call, invoice, off_session=True)


def _plan_end(call: Call, subscription: Json, *, wanted: bool) -> None:
    items = subscription_items.of(call, subscription["id"])
    subscription |= {
        "cancel_at": items[0]["current_period_end"] if wanted else None,
        "canceled_at": call.now if wanted else None,
    }


def _tell(call: Call, before: Json) -> Json:
    """Save and tell what changed since `before`."""
    subscription = subscriptions.retrieve(call, {}, before["id"])
    subscriptions.show_items(call, subscription)
    call.store.save(subscription)
    previous = {name: before[name] for name in before if before[name] != subscription[name]}
    if previous:
        events.emit(call, UPDATED, subscription, previous)
    return subscription


def _end(call: Call, subscription_id: str) -> Json:
    subscription = subscriptions.retrieve(call, {}, subscription_id)
    subscription |= {
        "canceled_at": subscription["canceled_at"] or call.now,
        "ended_at": call.now,
        "status": "canceled",
    }
    call.store.save(subscription)
    events.emit(call, "customer.subscription.deleted", subscription)
    return subscription
