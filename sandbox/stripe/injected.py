"""Objects that the simulator knows from an injected event alone, such as a payment made elsewhere.

Stripe has the object of every event that it sends, so a receiver may ask for it.
"""

from typing import Any, Final

from sandbox.stripe import invoice_lines, objects
from sandbox.stripe.call import Call
from sandbox.stripe.store import Json

CARD_NUMBER: Final = "4242424242424242"


def keep(call: Call, subject: Json) -> Json:
    """Store the object of an injected event, unless an object of its id exists already.

    Returns the object as an event shows it: an invoice has at most ten of its lines.
    """
    if subject["object"] == "invoice" and isinstance(subject.get("lines"), dict):
        subject = _with_lines(call, subject)
    object_id = subject.get("id")
    if isinstance(object_id, str) and call.store.get(object_id) is None:
        call.store.add(subject, _hidden(subject))
    return subject


def _hidden(subject: Json) -> dict[str, Any]:
    """Return what the simulator keeps beside an object of this kind when it makes one itself."""
    match subject["object"]:
        case "payment_method":
            attached = subject.get("customer") is not None
            return {"number": CARD_NUMBER, "set_up": attached, "spent": not attached}
        case "checkout.session":
            return {
                "discounts": [],
                "invoice_metadata": {},
                "line_items": [],
                "payment_intent_data": {},
                "tax_rates": [],
                "used_rates": [],
            }
        case _:
            return {}


def _with_lines(call: Call, invoice: Json) -> Json:
    """Store an invoice's lines, of which it shows the first ones."""
    lines = [_line(call, invoice, fields) for fields in invoice["lines"].get("data", [])]
    if call.store.get(invoice["id"]) is None:
        for line in reversed(lines):  # lists show what is newest first
            call.store.add(line, {"rates": []})
    return invoice | {"lines": invoice_lines.shown(invoice["id"], lines)}


def _line(call: Call, invoice: Json, fields: Json) -> Json:
    line = objects.new(invoice_lines.LINE, {"pricing": None, **fields, "invoice": invoice["id"]})
    if "id" not in fields or call.store.get(fields["id"]) is not None:
        line["id"] = call.ids.new("il")
    line.setdefault("currency", invoice.get("currency"))
    return line | {"subtotal": fields.get("subtotal", line["amount"])}
