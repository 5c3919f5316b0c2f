"""The paid invoice of a Checkout Session with `invoice_creation`.

https://docs.stripe.com/payments/checkout/receipts
"""

from sandbox.stripe import events, invoice_lines, invoice_payments, invoices, objects
from sandbox.stripe.call import Call
from sandbox.stripe.invoice_lines import Draft
from sandbox.stripe.store import Json


def build(call: Call, session: Json, intent: Json) -> Json:
    """Store the invoice of a session that was just paid, and tell."""
    email = session["customer_details"]["email"]
    buyer = {"id": session["customer"], "email": email, "name": None}
    hidden = call.store.hidden(session["id"])
    invoice = invoices.build(
        call,
        buyer,
        session["currency"],
        {
            "discounts": hidden["discounts"],
            "metadata": hidden["invoice_metadata"],
            "number": f"{call.ids.text(8).upper()}-0001",
        },
    )
    for item, rates in reversed(list(zip(hidden["line_items"], hidden["used_rates"], strict=True))):
        invoice_lines.add(call, invoice, _line(call, item, rates))
    invoice_lines.sum_up(call, invoice)
    _pay(call, invoice, session, intent)
    return invoice


def _line(call: Call, item: Json, rates: list[Json]) -> Draft:
    details = {
        "invoice_item": call.ids.new("ii"),
        "proration": False,
        "proration_details": {"credited_items": None},
        "subscription": None,
    }
    return Draft(
        amount=item["amount_subtotal"],
        description=item["description"],
        period=(call.now, call.now),
        parent={
            "invoice_item_details": details,
            "subscription_item_details": None,
            "type": "invoice_item_details",
        },
        price=item["price"],
        quantity=item["quantity"],
        rates=rates,
    )


def _pay(call: Call, invoice: Json, session: Json, intent: Json) -> None:
    total, shipping = session["amount_total"], session["shipping_cost"]
    address = f"{objects.ORIGIN}/invoices/{invoice['id']}"
    invoice |= {
        "amount_due": total,
        "amount_paid": total,
        "amount_shipping": shipping["amount_total"] if shipping else 0,
        "effective_at": call.now,
        "hosted_invoice_url": address,
        "invoice_pdf": address,
        "shipping_cost": shipping,
        "status_transitions": {**invoice["status_transitions"], "finalized_at": call.now},
        "total": total,
        "total_excluding_tax": total - session["total_details"]["amount_tax"],
    }
    call.store.save(invoice)
    events.emit(call, "invoice.finalized", invoice)
    invoice_payments.conclude(call, invoice_payments.build(call, invoice, intent), total)
    invoice_payments.mark_paid(call, invoice)
