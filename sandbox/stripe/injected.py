"""Objects that the simulator knows from an injected event alone, such as a payment made elsewhere.

Stripe has the object of every event that it sends, so a receiver may ask for it.
"""

from typing import Any, Final

from sandbox.stripe.call import Call
from sandbox.stripe.store import Json

CARD_NUMBER: Final = "4242424242424242"


def keep(call: Call, subject: Json) -> None:
    """Store the object of an injected event, unless an object of its id exists already."""
    object_id = subject.get("id")
    if not isinstance(object_id, str) or call.store.get(object_id) is not None:
        return
    call.store.add(subject, _hidden(subject))


def _hidden(subject: Json) -> dict[str, Any]:
    """Return what the simulator keeps beside an object of this kind when it makes one itself."""
    match subject["object"]:
        case "payment_method":
            attached = subject.get("customer") is not None
            return {"number": CARD_NUMBER, "set_up": attached, "spent": not attached}
        case "checkout.session":
            return {"discounts": [], "line_items": [], "payment_intent_data": {}, "tax_rates": []}
        case _:
            return {}
