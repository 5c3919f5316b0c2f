"""Invoices: made of invoice items or by subscriptions, finalized, and paid.

https://docs.stripe.com/api/invoices
"""

from typing import Final

from sandbox.stripe import (
    customers,
    discounts,
    errors,
    events,
    invoice_collection,
    invoice_items,
    invoice_lines,
    lists,
    objects,
    tax_rates,
)
from sandbox.stripe.call import Call
from sandbox.stripe.discounts import DISCOUNTS
from sandbox.stripe.params import Choice, Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

COLLECTION: Final = Choice(("charge_automatically", "send_invoice"))
_FIELDS: Final[Shape] = {
    "auto_advance": Kind.BOOLEAN,
    "collection_method": COLLECTION,
    "days_until_due": Kind.INTEGER,
    "default_payment_method": Kind.TEXT,
    "default_tax_rates": Kind.TEXTS,
    "description": Kind.TEXT,
    "discounts": DISCOUNTS,
    "expand": Kind.TEXTS,
    "footer": Kind.TEXT,
    "metadata": Kind.METADATA,
    "payment_settings": Kind.FREE,
    "statement_descriptor": Kind.TEXT,
}
CREATE: Final[Shape] = {
    **_FIELDS,
    "currency": Kind.TEXT,
    "customer": Kind.TEXT,
    "pending_invoice_items_behavior": Choice(("exclude", "include")),
    "subscription": Kind.TEXT,
}
UPDATE: Final[Shape] = _FIELDS
ADD_LINES: Final[Shape] = {
    "expand": Kind.TEXTS,
    "invoice_metadata": Kind.METADATA,
    "lines": invoice_items.LINES,
}
FINALIZE: Final[Shape] = {"auto_advance": Kind.BOOLEAN, "expand": Kind.TEXTS}
PAY: Final[Shape] = {
    "expand": Kind.TEXTS,
    "forgive": Kind.BOOLEAN,
    "off_session": Kind.BOOLEAN,
    "paid_out_of_band": Kind.BOOLEAN,
    "payment_method": Kind.TEXT,
}
LIST: Final[Shape] = {
    **lists.SHAPE,
    "collection_method": COLLECTION,
    "customer": Kind.TEXT,
    "status": Choice(("draft", "open", "paid", "uncollectible", "void")),
    "subscription": Kind.TEXT,
}
SUBSCRIPTION: Final = "parent.subscription_details.subscription"
_TEXTS: Final = ("default_payment_method", "description", "footer", "statement_descriptor")


def create(call: Call, params: Params) -> Json:
    """POST /v1/invoices: a draft; `pending_invoice_items_behavior=include` takes what waits."""
    if "customer" not in params:
        raise errors.missing_parameter("customer")
    customer = customers.load(call, params["customer"])
    values = _changes(call, params) | {"metadata": merge_metadata({}, params.get("metadata"))}
    if "subscription" in params:
        subscription_id = params["subscription"]
        subscription = call.load("subscription", subscription_id, param="subscription", status=400)
        values["parent"] = subscription_parent(subscription)
    invoice = build(call, customer, params.get("currency", "usd"), values)
    if params.get("pending_invoice_items_behavior") == "include":
        invoice_items.take_pending(call, invoice, params.get("subscription"))
    return opened(call, invoice)


def build(call: Call, customer: Json, currency: str, values: Json) -> Json:
    """Store a draft without lines; `opened` announces it once it has them."""
    invoice_id = call.ids.new("in")
    invoice = objects.new(
        "invoice",
        {
            "id": invoice_id,
            "billing_reason": "manual",
            "created": call.now,
            "currency": currency,
            "customer": customer["id"],
            "customer_email": customer["email"],
            "customer_name": customer["name"],
            "lines": invoice_lines.shown(invoice_id, []),
            "period_end": call.now,
            "period_start": call.now,
            **values,
        },
    )
    return call.store.add(invoice)


def opened(call: Call, invoice: Json) -> Json:
    """Compute the totals of a new draft, save it and tell."""
    invoice_lines.sum_up(call, invoice)
    call.store.save(invoice)
    events.emit(call, "invoice.created", invoice)
    return invoice


def subscription_parent(subscription: Json) -> Json:
    """Say that a subscription makes an invoice; its metadata is copied as it is now."""
    details = {"metadata": subscription["metadata"], "subscription": subscription["id"]}
    return {
        "quote_details": None,
        "subscription_details": details,
        "type": "subscription_details",
    }


def retrieve(call: Call, _params: Params, invoice_id: str) -> Json:
    """GET /v1/invoices/{id}."""
    return call.load("invoice", invoice_id)


def update(call: Call, params: Params, invoice_id: str) -> Json:
    """POST /v1/invoices/{id}: once finalized, only metadata and texts change."""
    invoice = call.load("invoice", invoice_id)
    if {"discounts", "default_tax_rates", "collection_method"} & params.keys():
        _check_draft(invoice)
    invoice |= _changes(call, params)
    invoice["metadata"] = merge_metadata(invoice["metadata"], params.get("metadata"))
    if invoice["status"] == "draft":
        invoice_lines.sum_up(call, invoice)
    call.store.save(invoice)
    events.emit(call, "invoice.updated", invoice, {})
    return invoice


def delete(call: Call, _params: Params, invoice_id: str) -> Json:
    """DELETE /v1/invoices/{id}: a draft alone."""
    invoice = call.load("invoice", invoice_id)
    _check_draft(invoice)
    call.store.remove(invoice_id)
    events.emit(call, "invoice.deleted", invoice)
    return objects.new("deleted_invoice", {"id": invoice_id})


def add_lines(call: Call, params: Params, invoice_id: str) -> Json:
    """POST /v1/invoices/{id}/add_lines."""
    invoice = call.load("invoice", invoice_id)
    _check_draft(invoice)
    for i, fields in enumerate(params["lines"]):
        invoice_items.add_line(call, invoice, fields, f"lines[{i}]")
    invoice_lines.sum_up(call, invoice)
    return call.store.save(invoice)


def finalize(call: Call, _params: Params, invoice_id: str) -> Json:
    """POST /v1/invoices/{id}/finalize."""
    invoice = call.load("invoice", invoice_id)
    _check_draft(invoice)
    return invoice_collection.finalize(call, invoice)


def pay(call: Call, params: Params, invoice_id: str) -> Json:
    """POST /v1/invoices/{id}/pay; a draft is finalized first, a declined card is 402."""
    invoice = call.load("invoice", invoice_id)
    if invoice["status"] == "draft":
        invoice = invoice_collection.finalize(call, invoice)
    elif invoice["status"] not in {"open", "uncollectible"}:
        adjective = "already paid" if invoice["status"] == "paid" else invoice["status"]
        raise errors.invalid(f"Invoice is {adjective}", code="invoice_not_editable")
    if invoice["status"] == "paid":
        return invoice
    if params.get("paid_out_of_band"):
        return invoice_collection.settle_out_of_band(call, invoice)
    method_id = params.get("payment_method") or invoice_collection.method_of(call, invoice)
    if method_id is None:
        raise errors.invalid(
            "There is no `default_payment_method` set on this Customer or Invoice. Please attach "
            "a payment method first.",
            code="invoice_no_payment_method_types",
        )
    off_session = params.get("off_session", True)
    return invoice_collection.charge(call, invoice, method_id, off_session=off_session)


def void(call: Call, _params: Params, invoice_id: str) -> Json:
    """POST /v1/invoices/{id}/void."""
    invoice = call.load("invoice", invoice_id)
    if invoice["status"] not in {"open", "uncollectible"}:
        raise errors.invalid(f"You can only void open invoices; it is {invoice['status']}.")
    return invoice_collection.void(call, invoice)


def mark_uncollectible(call: Call, _params: Params, invoice_id: str) -> Json:
    """POST /v1/invoices/{id}/mark_uncollectible."""
    invoice = call.load("invoice", invoice_id)
    if invoice["status"] != "open":
        raise errors.invalid("You can only mark open invoices as uncollectible.")
    invoice["status"] = "uncollectible"
    invoice["status_transitions"]["marked_uncollectible_at"] = call.now
    call.store.save(invoice)
    events.emit(call, "invoice.marked_uncollectible", invoice)
    return invoice


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/invoices."""
    equal = lists.filters(params, "collection_method", "customer", "status")
    if "subscription" in params:
        equal[SUBSCRIPTION] = params["subscription"]
    return lists.page(call, params, "invoice", "/v1/invoices", equal=equal)


def _changes(call: Call, params: Params) -> Json:
    changes: Json = {name: params[name] or None for name in _TEXTS if name in params}
    changes |= {n: params[n] for n in ("auto_advance", "collection_method") if n in params}
    if "days_until_due" in params:
        changes["due_date"] = call.now + params["days_until_due"] * 86_400
    if "default_tax_rates" in params:
        changes["default_tax_rates"] = tax_rates.load_all(
            call, params["default_tax_rates"], "default_tax_rates"
        )
    if "discounts" in params:
        built = discounts.build_all(call, params["discounts"], {})
        changes["discounts"] = [discount["id"] for discount in built]
    return changes


def _check_draft(invoice: Json) -> None:
    if invoice["status"] != "draft":
        raise errors.invalid(
            "This invoice is no longer editable: it was finalized.", code="invoice_not_editable"
        )
