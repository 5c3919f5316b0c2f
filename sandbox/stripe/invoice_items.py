"""Invoice items: what waits for a customer's next invoice, or is put on a draft at once.

https://docs.stripe.com/api/invoiceitems
"""

from typing import Any, Final

from sandbox.stripe import (
    customers,
    errors,
    events,
    invoice_lines,
    lists,
    objects,
    prices,
    tax_rates,
)
from sandbox.stripe.call import Call
from sandbox.stripe.invoice_lines import Draft
from sandbox.stripe.params import Items, Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

ITEM: Final = "invoiceitem"
PENDING_MAX: Final = 1_000
_LINE: Final[dict[str, Any]] = {
    "amount": Kind.INTEGER,
    "description": Kind.TEXT,
    "discountable": Kind.BOOLEAN,
    "metadata": Kind.METADATA,
    "period": {"end": Kind.INTEGER, "start": Kind.INTEGER},
    "price_data": prices.DATA,
    "pricing": {"price": Kind.TEXT},
    "quantity": Kind.INTEGER,
    "tax_rates": Kind.TEXTS,
}
LINES: Final = Items({**_LINE, "invoice_item": Kind.TEXT})
CREATE: Final[Shape] = {
    **_LINE,
    "currency": Kind.TEXT,
    "customer": Kind.TEXT,
    "expand": Kind.TEXTS,
    "invoice": Kind.TEXT,
    "subscription": Kind.TEXT,
}
LIST: Final[Shape] = {**lists.SHAPE, "customer": Kind.TEXT, "invoice": Kind.TEXT}


def create(call: Call, params: Params) -> Json:
    """POST /v1/invoiceitems: waits for the next invoice, or goes on the draft `invoice`."""
    if "customer" not in params:
        raise errors.missing_parameter("customer")
    customers.load(call, params["customer"])
    invoice = None
    if "invoice" in params:
        invoice = call.load("invoice", params["invoice"], param="invoice", status=400)
    if invoice is not None and invoice["status"] != "draft":
        raise errors.invalid("This invoice is no longer editable.", code="invoice_not_editable")
    currency = invoice["currency"] if invoice is not None else params.get("currency", "usd")
    subscription = params.get("subscription")
    item = _build(call, _draft(call, params, ""), params["customer"], currency, subscription)
    if invoice is not None:
        take(call, invoice, item)
        invoice_lines.sum_up(call, invoice)
        call.store.save(invoice)
    return item


def retrieve(call: Call, _params: Params, item_id: str) -> Json:
    """GET /v1/invoiceitems/{id}."""
    return call.load(ITEM, item_id, name="invoice item")


def delete(call: Call, _params: Params, item_id: str) -> Json:
    """DELETE /v1/invoiceitems/{id}: while it waits."""
    item = retrieve(call, {}, item_id)
    if item["invoice"] is not None:
        raise errors.invalid("This invoice item is on an invoice already.")
    call.store.remove(item_id)
    events.emit(call, "invoiceitem.deleted", item)
    return objects.new("deleted_invoiceitem", {"id": item_id})


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/invoiceitems."""
    equal = lists.filters(params, "customer", "invoice")
    return lists.page(call, params, ITEM, "/v1/invoiceitems", equal=equal)


def add_line(call: Call, invoice: Json, params: Params, param: str) -> None:
    """Put one new line on a draft; the caller sums it up."""
    if "invoice_item" in params:
        item_id = params["invoice_item"]
        take(call, invoice, call.load(ITEM, item_id, param=f"{param}[invoice_item]", status=400))
        return
    draft = _draft(call, params, param, invoice["default_tax_rates"])
    take(call, invoice, _build(call, draft, invoice["customer"], invoice["currency"], None))


def prorate(call: Call, draft: Draft, customer: str, currency: str) -> Json:
    """Store a proration that waits for an invoice; the draft's parent names its subscription."""
    details = draft.parent["subscription_item_details"]
    return _build(call, draft, customer, currency, details["subscription"])


def take_pending(call: Call, invoice: Json, subscription: str | None) -> None:
    """Put what waits for a subscription, or for none, on an invoice."""
    waiting = call.store.find(ITEM, PENDING_MAX, equal={"customer": invoice["customer"]})
    for item in reversed(waiting):
        parent = item["parent"] or {}
        belongs = parent.get("subscription_details", {}).get("subscription") == subscription
        if item["invoice"] is None and belongs and item["currency"] == invoice["currency"]:
            take(call, invoice, item)


def take(call: Call, invoice: Json, item: Json) -> None:
    """Move an invoice item on an invoice as a line of it."""
    item["invoice"] = invoice["id"]
    call.store.save(item)
    hidden = call.store.hidden(item["id"])
    rates = hidden["rates"] or invoice["default_tax_rates"]
    parent = hidden["line_parent"] or {
        "invoice_item_details": {
            "invoice_item": item["id"],
            "proration": False,
            "proration_details": {"credited_items": None},
            "subscription": None,
        },
        "subscription_item_details": None,
        "type": "invoice_item_details",
    }
    if parent["subscription_item_details"] is not None:
        parent["subscription_item_details"]["invoice_item"] = item["id"]
    invoice_lines.add(
        call,
        invoice,
        Draft(
            amount=item["amount"],
            description=item["description"],
            period=(item["period"]["start"], item["period"]["end"]),
            parent=parent,
            price=hidden["price"],
            quantity=item["quantity"],
            rates=rates,
            discountable=item["discountable"],
            metadata=item["metadata"],
        ),
    )


def _build(
    call: Call, draft: Draft, customer: str, currency: str, subscription: str | None
) -> Json:
    start, end = draft.period
    proration = bool(draft.parent)
    item = objects.new(
        ITEM,
        {
            "id": call.ids.new("ii"),
            "amount": draft.amount,
            "currency": currency,
            "customer": customer,
            "date": call.now,
            "description": draft.description,
            "discountable": draft.discountable,
            "metadata": draft.metadata,
            "net_amount": draft.amount,
            "parent": _parent(draft, subscription),
            "period": {"end": end, "start": start},
            "pricing": invoice_lines.pricing(draft.price),
            "proration": proration,
            "quantity": draft.quantity,
            "quantity_decimal": str(draft.quantity),
        },
    )
    hidden = {"line_parent": draft.parent, "price": draft.price, "rates": draft.rates}
    call.store.add(item, hidden)
    events.emit(call, "invoiceitem.created", item)
    return item


def _parent(draft: Draft, subscription: str | None) -> Json | None:
    if subscription is None:
        return None
    details = {"subscription": subscription}
    if draft.parent:
        item = draft.parent["subscription_item_details"]["subscription_item"]
        details["subscription_item"] = item
    return {"subscription_details": details, "type": "subscription_details"}


def _draft(
    call: Call, params: Params, param: str, default_rates: list[Json] | None = None
) -> Draft:
    price, amount = None, params.get("amount")
    quantity = params.get("quantity", 1)
    if "pricing" in params or "price_data" in params:
        named = params | ({"price": params["pricing"]["price"]} if "pricing" in params else {})
        price = prices.resolve(call, named, param)
        amount = prices.amount(price, quantity)
    if amount is None:
        raise errors.missing_parameter(f"{param}[amount]" if param else "amount")
    description = params.get("description")
    if description is None and price is not None:
        description = call.load("product", price["product"])["name"]
    period = {"end": call.now, "start": call.now} | params.get("period", {})
    rates = tax_rates.load_all(call, params.get("tax_rates", []), f"{param}[tax_rates]")
    return Draft(
        amount=amount,
        description=description,
        period=(period["start"], period["end"]),
        parent={},
        price=price,
        quantity=quantity,
        rates=rates or default_rates or [],
        discountable=params.get("discountable", True),
        metadata=merge_metadata({}, params.get("metadata")),
    )
