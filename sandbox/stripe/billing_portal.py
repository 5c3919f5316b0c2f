"""Billing Portal sessions: a page on which customers keep their cards.

https://docs.stripe.com/api/customer_portal/sessions
"""

from typing import Final
from urllib.parse import urlsplit

from sandbox.stripe import customers, errors, objects, payment_methods, setup_attempts
from sandbox.stripe import setup_intents as setups
from sandbox.stripe.call import Call
from sandbox.stripe.params import Kind, Params, Shape
from sandbox.stripe.store import Json

CREATE: Final[Shape] = {
    "configuration": Kind.TEXT,
    "customer": Kind.TEXT,
    "expand": Kind.TEXTS,
    "flow_data": Kind.FREE,
    "locale": Kind.TEXT,
    "on_behalf_of": Kind.TEXT,
    "return_url": Kind.TEXT,
}
SESSION: Final = "billing_portal.session"
CARDS_MAX: Final = 100


def create(call: Call, params: Params) -> Json:
    """POST /v1/billing_portal/sessions; `flow_data` is accepted and ignored."""
    customers.load(call, params["customer"])
    return_url = params.get("return_url")
    if return_url is not None and urlsplit(return_url).scheme not in {"http", "https"}:
        raise errors.invalid("Not a valid URL", param="return_url", code="url_invalid")
    session_id = call.ids.new("bps")
    return call.store.add(
        {
            "id": session_id,
            "object": SESSION,
            "configuration": params.get("configuration", "bpc_1Simulator"),
            "created": call.now,
            "customer": params["customer"],
            "flow": None,
            "livemode": False,
            "locale": params.get("locale"),
            "on_behalf_of": params.get("on_behalf_of"),
            "return_url": return_url,
            "url": f"{objects.ORIGIN}/p/session/{session_id}",
        }
    )


def cards_of(call: Call, session: Json) -> list[Json]:
    """List the cards that the session's customer keeps, newest first."""
    equal = {"customer": session["customer"], "type": "card"}
    return call.store.find("payment_method", CARDS_MAX, equal=equal)


def default_of(call: Call, session: Json) -> str | None:
    """Return the id of the card that the customer pays with."""
    customer = customers.load(call, session["customer"])
    default: str | None = customer["invoice_settings"]["default_payment_method"]
    return default


def add_card(call: Call, session: Json, number: str) -> Json:
    """Set up a card for use while its holder is away; returns the SetupIntent.

    A card that wants 3-D Secure leaves it in `requires_action`, with the way back to this page.
    """
    method = payment_methods.from_data(call, {"type": "card", "card": {"number": number}})
    intent = setups.build(call, {"customer": session["customer"], "usage": "off_session"})
    call.store.hide(intent["id"], return_url=session["url"])
    return setup_attempts.attempt(call, intent, method, authenticated=False)


def make_default(call: Call, session: Json, method_id: str) -> None:
    """Let the customer pay with this card from now on."""
    changes = {"invoice_settings": {"default_payment_method": method_id}}
    customers.update(call, changes, session["customer"])


def remove_card(call: Call, session: Json, method_id: str) -> None:
    """Forget one of the customer's cards."""
    customers.retrieve_payment_method(call, {}, session["customer"], method_id)
    payment_methods.detach(call, {}, method_id)
