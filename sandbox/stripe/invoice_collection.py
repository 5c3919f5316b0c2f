"""Finalizing invoices and collecting them: customer balance first, then a PaymentIntent.

https://docs.stripe.com/invoicing/integration/workflow-transitions
"""

from typing import Final

from sandbox.stripe import (
    attempts,
    customer_balance,
    customers,
    discounts,
    events,
    invoice_lines,
    invoice_payments,
    objects,
    payment_intents,
    payment_methods,
)
from sandbox.stripe.call import Call
from sandbox.stripe.store import Json

_DESCRIPTIONS: Final = {
    "subscription_create": "Subscription creation",
    "subscription_update": "Subscription update",
    "subscription_cycle": "Subscription update",
}


def finalize(call: Call, invoice: Json) -> Json:
    """Fix the amounts of a draft; with nothing due it is paid at once.

    The PaymentIntent of an invoice has its customer and no metadata.
    """
    invoice_lines.sum_up(call, invoice)
    due = customer_balance.apply(call, invoice)
    address = f"{objects.ORIGIN}/invoices/{invoice['id']}"
    invoice |= {
        "amount_due": due,
        "amount_remaining": due,
        "effective_at": call.now,
        "hosted_invoice_url": address,
        "invoice_pdf": address,
        "number": _number(call, invoice["customer"]),
        "status": "open",
        "status_transitions": {**invoice["status_transitions"], "finalized_at": call.now},
    }
    call.store.save(invoice)
    for discount_id in invoice["discounts"]:
        discounts.redeem(call, call.load("discount", discount_id))
    events.emit(call, "invoice.finalized", invoice)
    if due == 0:
        invoice_payments.mark_paid(call, invoice)
    else:
        _request_payment(call, invoice, due)
    return call.load("invoice", invoice["id"])


def charge(call: Call, invoice: Json, method_id: str, *, off_session: bool) -> Json:
    """Charge a payment method for an open invoice; raises `ApiError` 402 when it is declined."""
    intent = call.load("payment_intent", intent_of(call, invoice))
    method = payment_methods.resolve(call, method_id, customer_id=invoice["customer"])
    circumstances = attempts.Circumstances(off_session=off_session)
    intent = attempts.attempt(call, intent, method, circumstances)
    attempts.finish(call, intent)
    invoice = call.load("invoice", invoice["id"])
    if intent["status"] == "requires_action":
        invoice["attempted"] = True
        call.store.save(invoice)
        events.emit(call, "invoice.payment_action_required", invoice)
    return invoice


def intent_of(call: Call, invoice: Json) -> str:
    """Return the id of the PaymentIntent that an open invoice is paid with."""
    payments = invoice_payments.of(call, invoice["id"])
    opened = next(payment for payment in payments if payment["status"] == "open")
    intent_id: str = opened["payment"]["payment_intent"]
    return intent_id


def method_of(call: Call, invoice: Json) -> str | None:
    """Return the payment method that an invoice is charged to: its own, or the nearest default."""
    if invoice["default_payment_method"]:
        return str(invoice["default_payment_method"])
    if invoice["parent"] is not None:
        details = invoice["parent"]["subscription_details"]
        subscription = call.load("subscription", details["subscription"])
        if subscription["default_payment_method"]:
            return str(subscription["default_payment_method"])
    customer = customers.load(call, invoice["customer"])
    default: str | None = customer["invoice_settings"]["default_payment_method"]
    return default


def settle_out_of_band(call: Call, invoice: Json) -> Json:
    """Mark an invoice as paid elsewhere: its PaymentIntent is canceled, no money moves here."""
    _cancel_payments(call, invoice)
    invoice |= {
        "amount_paid": invoice["amount_due"],
        "amount_paid_off_stripe": invoice["amount_due"],
    }
    invoice_payments.mark_paid(call, invoice)
    return invoice


def void(call: Call, invoice: Json) -> Json:
    """End an invoice that nobody is to pay."""
    _cancel_payments(call, invoice)
    invoice |= {"amount_remaining": 0, "next_payment_attempt": None, "status": "void"}
    invoice["status_transitions"]["voided_at"] = call.now
    call.store.save(invoice)
    events.emit(call, "invoice.voided", invoice)
    return invoice


def _cancel_payments(call: Call, invoice: Json) -> None:
    for intent_id in invoice_payments.cancel(call, invoice):
        payment_intents.cancel(call, {"cancellation_reason": "void_invoice"}, intent_id)


def _request_payment(call: Call, invoice: Json, due: int) -> None:
    description = _DESCRIPTIONS.get(invoice["billing_reason"], f"Payment for {invoice['number']}")
    values = {"customer": invoice["customer"], "description": description, "metadata": {}}
    if invoice["parent"] is not None:
        values["setup_future_usage"] = "off_session"
    intent = payment_intents.build(call, due, invoice["currency"], values)
    invoice_payments.build(call, invoice, intent)


def _number(call: Call, customer_id: str) -> str:
    customer = customers.load(call, customer_id)
    sequence = customer["next_invoice_sequence"]
    customer["next_invoice_sequence"] = sequence + 1
    call.store.save(customer)
    return f"{customer['invoice_prefix']}-{sequence:04d}"
