"""Invoices that subscriptions make: the first, one for each period, and for changes in between.

https://docs.stripe.com/billing/subscriptions/prorations
"""

from dataclasses import dataclass
from typing import Final

from sandbox.stripe import (
    customers,
    discounts,
    errors,
    invoice_collection,
    invoice_items,
    invoice_lines,
    invoices,
    periods,
    prices,
    tax_rates,
    totals,
)
from sandbox.stripe import subscription_items as items
from sandbox.stripe.call import Call
from sandbox.stripe.invoice_lines import Draft
from sandbox.stripe.store import Json

CREDITED_LINES_MAX: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Billing:
    """One invoice that a subscription makes: why, and which items it bills for their period."""

    reason: str
    billed: list[Json]
    period: tuple[int, int]


def bill(call: Call, subscription: Json, billing: Billing) -> Json:
    """Make and finalize an invoice of the billed items and what waits; it is not charged yet."""
    customer = customers.load(call, subscription["customer"])
    start, end = billing.period
    invoice = invoices.build(
        call,
        customer,
        subscription["currency"],
        {
            "auto_advance": True,
            "automatic_tax": {
                **subscription["automatic_tax"],
                "provider": None,
                "status": "complete" if subscription["automatic_tax"]["enabled"] else None,
            },
            "billing_reason": billing.reason,
            "collection_method": subscription["collection_method"],
            "default_payment_method": None,
            "default_tax_rates": subscription["default_tax_rates"],
            "discounts": _discounts(call, subscription),
            "parent": invoices.subscription_parent(subscription),
            "period_end": end,
            "period_start": start,
        },
    )
    for item in reversed(billing.billed):
        invoice_lines.add(call, invoice, _line(call, subscription, item))
    invoice_items.take_pending(call, invoice, subscription["id"])
    invoices.opened(call, invoice)
    invoice = invoice_collection.finalize(call, invoice)
    _end_once(call, subscription["id"])
    return invoice


def collect(call: Call, invoice: Json, *, off_session: bool) -> errors.ApiError | None:
    """Charge an open invoice; returns the refusal of a declined card, which is recorded on it."""
    if invoice["status"] != "open" or invoice["collection_method"] != "charge_automatically":
        return None
    method_id = invoice_collection.method_of(call, invoice)
    if method_id is None:
        return errors.invalid(
            "This customer has no attached payment source or default payment method.",
            code="resource_missing",
        )
    try:
        invoice_collection.charge(call, invoice, method_id, off_session=off_session)
    except errors.ApiError as error:
        if not error.keeps_effects:
            raise
        return error
    return None


def prorate(call: Call, subscription: Json, change: items.Change, at: int) -> None:
    """Make the prorations of one changed item: unused time comes back, remaining time is due."""
    if subscription["status"] == "trialing":
        return
    if change.before is not None:
        _prorate(call, subscription, change.before, at, sign=-1)
    if change.after is not None:
        _prorate(call, subscription, change.after, at, sign=1)


def credit_unused(call: Call, subscription: Json, item: Json, at: int) -> None:
    """Give back what is left of an item's period."""
    prorate(call, subscription, items.Change(item, None), at)


def rates_of(call: Call, subscription: Json, item: Json) -> list[Json]:
    """Return the tax rates that count for an item of a subscription."""
    if subscription["automatic_tax"]["enabled"]:
        return [tax_rates.automatic(call, item["price"])]
    rates: list[Json] = item["tax_rates"] or subscription["default_tax_rates"]
    return rates


def _prorate(call: Call, subscription: Json, item: Json, at: int, *, sign: int) -> None:
    end = item["current_period_end"]
    billed = _billed(call, item) if sign < 0 else None
    if billed is None:
        period = (item["current_period_start"], end)
        rest = periods.left(_net(call, subscription, item), period, at)
    else:
        paid = billed["amount"] - sum(part["amount"] for part in billed["discount_amounts"])
        rest = periods.left(paid, (billed["period"]["start"], end), at)
    name = call.load("product", item["price"]["product"])["name"]
    count = "" if item["quantity"] == 1 else f"{item['quantity']} x "
    verb = "Unused time on" if sign < 0 else "Remaining time on"
    draft = Draft(
        amount=sign * rest,
        description=f"{verb} {count}{name}",
        period=(at, end),
        parent=_parent(item, proration=True, billed=billed),
        price=item["price"],
        quantity=item["quantity"],
        rates=rates_of(call, subscription, item),
        discountable=False,  # the amount has the discount in it
    )
    invoice_items.prorate(call, draft, subscription["customer"], subscription["currency"])


def _net(call: Call, subscription: Json, item: Json) -> int:
    """Return what an item costs for a whole period, less the subscription's discounts."""
    line = totals.Line(amount=prices.amount(item["price"], item["quantity"]))
    totals.compute([line], discounts.coupons_of(call, _discounts(call, subscription)))
    return line.amount - line.discount


def _line(call: Call, subscription: Json, item: Json) -> Draft:
    amount = prices.amount(item["price"], item["quantity"])
    name = call.load("product", item["price"]["product"])["name"]
    description = f"{item['quantity']} x {name}"
    if subscription["status"] == "trialing":
        amount, description = 0, f"Trial period for {name}"
    return Draft(
        amount=amount,
        description=description,
        period=(item["current_period_start"], item["current_period_end"]),
        parent=_parent(item, proration=False),
        price=item["price"],
        quantity=item["quantity"],
        rates=rates_of(call, subscription, item),
    )


def _parent(item: Json, *, proration: bool, billed: Json | None = None) -> Json:
    credited = None
    if billed is not None:
        credited = {"invoice": billed["invoice"], "invoice_line_items": [billed["id"]]}
    return {
        "invoice_item_details": None,
        "subscription_item_details": {
            "invoice_item": None,
            "proration": proration,
            "proration_details": {"credited_items": credited},
            "subscription": item["subscription"],
            "subscription_item": item["id"],
        },
        "type": "subscription_item_details",
    }


def _billed(call: Call, item: Json) -> Json | None:
    """Find the line that billed the current period of an item, whose unused time comes back.

    Without one (it waits for an invoice still) the price says what the time is worth.
    """
    equal = {"parent.subscription_item_details.subscription_item": item["id"]}
    for line in call.store.find(invoice_lines.LINE, CREDITED_LINES_MAX, equal=equal):
        same = (
            line["quantity"] == item["quantity"]
            and line["pricing"]["price_details"]["price"] == item["price"]["id"]
            and line["period"]["end"] == item["current_period_end"]
        )
        if same and line["amount"] > 0:
            return line
    return None


def _discounts(call: Call, subscription: Json) -> list[str]:
    return [discount for discount in subscription["discounts"] if discounts.applies(call, discount)]


def _end_once(call: Call, subscription_id: str) -> None:
    """Take off the discounts that count for one invoice only."""
    subscription = call.load("subscription", subscription_id)
    subscription["discounts"] = [
        discount
        for discount in subscription["discounts"]
        if discounts.coupons_of(call, [discount])[0]["duration"] != "once"
    ]
    call.store.save(subscription)
