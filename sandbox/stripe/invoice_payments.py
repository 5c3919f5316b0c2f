"""How invoices are paid: by PaymentIntents, and what follows for invoice and subscription.

https://docs.stripe.com/api/invoice-payment
"""

from typing import Final

from sandbox.stripe import events, lists, objects
from sandbox.stripe.call import Call
from sandbox.stripe.params import Choice, Kind, Params, Shape
from sandbox.stripe.store import Json

PAYMENT: Final = "invoice_payment"
LIST: Final[Shape] = {
    **lists.SHAPE,
    "invoice": Kind.TEXT,
    "payment": {"payment_intent": Kind.TEXT, "type": Choice(("payment_intent",))},
    "status": Choice(("canceled", "open", "paid")),
}
RETRY_SECONDS: Final = 3 * 86_400


def build(call: Call, invoice: Json, intent: Json) -> Json:
    """Link a PaymentIntent to the invoice that it is for."""
    call.store.hide(intent["id"], invoice=invoice["id"])
    payment = objects.new(
        PAYMENT,
        {
            "id": call.ids.new("inpay"),
            "amount_requested": intent["amount"],
            "created": call.now,
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": True,
            "livemode": False,
            "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
            "status": "open",
        },
    )
    return call.store.add(payment)


def retrieve(call: Call, _params: Params, payment_id: str) -> Json:
    """GET /v1/invoice_payments/{id}."""
    return call.load(PAYMENT, payment_id, name="invoice payment")


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/invoice_payments, also by `payment[payment_intent]`."""
    equal = lists.filters(params, "invoice", "status")
    payment = params.get("payment", {})
    if "payment_intent" in payment:
        equal["payment.payment_intent"] = payment["payment_intent"]
    return lists.page(call, params, PAYMENT, "/v1/invoice_payments", equal=equal)


def of(call: Call, invoice_id: str) -> list[Json]:
    """Read the payments of an invoice, newest first."""
    return call.store.find(PAYMENT, lists.LIMIT_MAX, equal={"invoice": invoice_id})


def follow(call: Call, intent: Json) -> None:
    """Mark the invoice of a PaymentIntent that succeeded as paid; without an invoice, nothing."""
    payment = _open_payment(call, intent)
    if payment is None:
        return
    conclude(call, payment, intent["amount_received"])
    invoice = call.load("invoice", payment["invoice"])
    invoice["amount_paid"] += intent["amount_received"]
    invoice["attempt_count"] += 1
    mark_paid(call, invoice)


def conclude(call: Call, payment: Json, amount: int) -> None:
    """Mark an invoice payment as paid."""
    payment |= {
        "amount_paid": amount,
        "status": "paid",
        "status_transitions": {"canceled_at": None, "paid_at": call.now},
    }
    call.store.save(payment)
    events.emit(call, "invoice_payment.paid", payment)


def cancel(call: Call, invoice: Json) -> list[str]:
    """Cancel what is open of an invoice's payments; returns the ids of their PaymentIntents."""
    payments = [payment for payment in of(call, invoice["id"]) if payment["status"] == "open"]
    for payment in payments:
        payment |= {
            "status": "canceled",
            "status_transitions": {"canceled_at": call.now, "paid_at": None},
        }
        call.store.save(payment)
    return [payment["payment"]["payment_intent"] for payment in payments]


def mark_paid(call: Call, invoice: Json) -> None:
    """End an invoice as paid, whatever paid it, and let its subscription go on."""
    invoice |= {
        "amount_remaining": 0,
        "attempted": True,
        "next_payment_attempt": None,
        "status": "paid",
        "status_transitions": {**invoice["status_transitions"], "paid_at": call.now},
    }
    call.store.save(invoice)
    events.emit(call, "invoice.paid", invoice)
    events.emit(call, "invoice.payment_succeeded", invoice)
    _turn(call, invoice, "active", ("incomplete", "past_due", "unpaid"))


def fail(call: Call, intent: Json) -> None:
    """Record on the invoice of a PaymentIntent that an attempt was refused."""
    payment = _open_payment(call, intent)
    if payment is None:
        return
    invoice = call.load("invoice", payment["invoice"])
    invoice |= {"attempt_count": invoice["attempt_count"] + 1, "attempted": True}
    if invoice["billing_reason"] != "subscription_create" and invoice["auto_advance"]:
        invoice["next_payment_attempt"] = call.now + RETRY_SECONDS
    call.store.save(invoice)
    events.emit(call, "invoice.payment_failed", invoice)
    _turn(call, invoice, "past_due", ("active",))


def _open_payment(call: Call, intent: Json) -> Json | None:
    invoice_id = call.store.hidden(intent["id"]).get("invoice")
    if invoice_id is None:
        return None
    for payment in of(call, invoice_id):
        linked = payment["payment"].get("payment_intent") == intent["id"]
        if linked and payment["status"] == "open":
            return payment
    return None


def _turn(call: Call, invoice: Json, status: str, before: tuple[str, ...]) -> None:
    """Change the status of the invoice's subscription, if it has one of the statuses before."""
    if invoice["parent"] is None:
        return
    subscription = call.load(
        "subscription", invoice["parent"]["subscription_details"]["subscription"]
    )
    if subscription["status"] not in before:
        return
    previous = {"status": subscription["status"]}
    subscription["status"] = status
    call.store.save(subscription)
    events.emit(call, "customer.subscription.updated", subscription, previous)
