"""The paid invoice of a Checkout Session with `invoice_creation`.

https://docs.stripe.com/payments/checkout/receipts
"""

from sandbox.stripe import events, objects
from sandbox.stripe.call import Call
from sandbox.stripe.params import Params
from sandbox.stripe.store import Json


def paid(call: Call, session: Json) -> Json:
    """Keep the invoice of a session that was just paid, and tell."""
    invoice_id = call.ids.new("in")
    total = session["amount_total"]
    moments = dict.fromkeys(("finalized_at", "paid_at"), call.now)
    invoice = objects.new(
        "invoice",
        {
            "id": invoice_id,
            "amount_due": total,
            "amount_paid": total,
            "amount_remaining": 0,
            "attempted": True,
            "created": call.now,
            "currency": session["currency"],
            "customer": session["customer"],
            "customer_email": session["customer_details"]["email"],
            "effective_at": call.now,
            "hosted_invoice_url": f"{objects.ORIGIN}/invoices/{invoice_id}",
            "invoice_pdf": f"{objects.ORIGIN}/invoices/{invoice_id}",
            "lines": objects.listed([], f"/v1/invoices/{invoice_id}/lines"),
            "livemode": False,
            "metadata": {},
            "number": f"{call.ids.text(8).upper()}-0001",
            "period_end": call.now,
            "period_start": call.now,
            "status": "paid",
            "status_transitions": {"marked_uncollectible_at": None, "voided_at": None, **moments},
            "subtotal": total,
            "total": total,
        },
    )
    call.store.add(invoice)
    for event_type in ("invoice.finalized", "invoice.paid", "invoice.payment_succeeded"):
        events.emit(call, event_type, invoice)
    return invoice


def retrieve(call: Call, _params: Params, invoice_id: str) -> Json:
    """GET /v1/invoices/{id}."""
    return call.load("invoice", invoice_id)
