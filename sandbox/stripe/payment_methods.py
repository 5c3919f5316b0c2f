"""Payment methods: cards, from test ids or test numbers.

https://docs.stripe.com/api/payment_methods
"""

from typing import Final

from sandbox.stripe import cards, customers, declines, errors, events, lists, objects
from sandbox.stripe.call import Call
from sandbox.stripe.params import Choice, Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

DATA: Final[Shape] = {
    "allow_redisplay": Choice(("always", "limited", "unspecified")),
    "billing_details": Kind.FREE,
    "metadata": Kind.METADATA,
    "type": Kind.TEXT,
    "card": {
        "cvc": Kind.TEXT,
        "exp_month": Kind.INTEGER,
        "exp_year": Kind.INTEGER,
        "networks": Kind.FREE,
        "number": Kind.TEXT,
        "token": Kind.TEXT,
    },
}
CREATE: Final[Shape] = {**DATA, "expand": Kind.TEXTS}
UPDATE: Final[Shape] = {
    "allow_redisplay": Choice(("always", "limited", "unspecified")),
    "billing_details": Kind.FREE,
    "card": {"exp_month": Kind.INTEGER, "exp_year": Kind.INTEGER, "networks": Kind.FREE},
    "expand": Kind.TEXTS,
    "metadata": Kind.METADATA,
}
ATTACH: Final[Shape] = {"customer": Kind.TEXT, "expand": Kind.TEXTS}
EXPAND: Final[Shape] = {"expand": Kind.TEXTS}
LIST: Final[Shape] = {
    **lists.CURSORS,
    "allow_redisplay": Kind.TEXT,
    "customer": Kind.TEXT,
    "type": Kind.TEXT,
}
LIST_OF_CUSTOMER: Final[Shape] = {
    **lists.CURSORS,
    "allow_redisplay": Kind.TEXT,
    "type": Kind.TEXT,
}


def build(call: Call, card: cards.Card, params: Params | None = None) -> Json:
    """Keep a new, loose payment method of a test card."""
    params = params or {}
    template = objects.new("payment_method", {})
    method = template | {
        "id": call.ids.new("pm"),
        "created": call.now,
        "allow_redisplay": params.get("allow_redisplay", "unspecified"),
        "billing_details": {**template["billing_details"], **params.get("billing_details", {})},
        "metadata": merge_metadata({}, params.get("metadata")),
        "type": card.kind,
        "card": _card_details(template["card"], card, params.get("card", {})),
    }
    if card.kind == "us_bank_account":
        del method["card"]
        method["us_bank_account"] = _bank_details(card)
    return call.store.add(method, {"number": card.number, "set_up": False, "spent": False})


def card_of(call: Call, method: Json) -> cards.Card:
    """Tell which test card a payment method stands for."""
    return cards.BY_NUMBER[call.store.hidden(method["id"])["number"]]


def become(call: Call, method_id: str, number: str) -> Json:
    """Let a saved card answer charges as another test card from now on, as when money runs out.

    What people see of it (brand, last four digits) stays.
    """
    if number not in cards.BY_NUMBER:
        raise errors.invalid("There is no such test card.", param="card")
    method = call.load("payment_method", method_id, name="PaymentMethod")
    call.store.hide(method_id, number=number)
    return method


def resolve(
    call: Call, method_id: str, *, customer_id: str | None, param: str = "payment_method"
) -> Json:
    """Turn an id from a request into a payment method that may be charged for this customer.

    A test id such as `pm_card_visa` yields a fresh payment method each time, as Stripe does.
    """
    card = cards.from_test_id(method_id)
    if card is not None:
        return build(call, card)
    method = call.load("payment_method", method_id, name="PaymentMethod", param=param, status=400)
    owner = method["customer"]
    if owner is not None and customer_id is None:
        message = (
            f"The payment method supplied ({method_id}) belongs to the Customer {owner}. Please "
            "include the Customer in the `customer` parameter on the PaymentIntent."
        )
        raise errors.invalid(message, param=param)
    if owner is not None and owner != customer_id:
        message = (
            f"The customer does not have a payment method with the ID {method_id}. The payment "
            "method must be attached to the customer."
        )
        raise errors.invalid(message, param=param)
    if owner is None and call.store.hidden(method_id)["spent"]:
        raise _spent(param)
    return method


def bind(call: Call, method: Json, customer_id: str) -> Json:
    """Attach a payment method to a customer and tell; again to the same customer is a no-op."""
    if method["customer"] == customer_id:
        return method
    method["customer"] = customer_id
    call.store.save(method)
    events.emit(call, "payment_method.attached", method)
    return method


def from_data(call: Call, params: Params) -> Json:
    """Build a payment method from `type`, `card[number]` or `card[token]`."""
    if params.get("type", "card") != "card":
        raise errors.invalid(
            f"The payment method type provided: {params['type']} is not simulated here: only card "
            "is.",
            param="type",
        )
    fields = params.get("card", {})
    if "token" in fields:
        card = cards.from_test_id(fields["token"])
        if card is None:
            raise errors.no_such("token", fields["token"], param="card[token]", status=400)
        return build(call, card, params)
    if "number" not in fields:
        raise errors.missing_parameter("card[number]")
    card = cards.BY_NUMBER.get(fields["number"].replace(" ", ""))
    if card is None:
        raise errors.card_error(declines.INCORRECT_NUMBER)
    return build(call, card, params)


def create(call: Call, params: Params) -> Json:
    """POST /v1/payment_methods."""
    return from_data(call, params)


def retrieve(call: Call, _params: Params, method_id: str) -> Json:
    """GET /v1/payment_methods/{id}."""
    card = cards.from_test_id(method_id)
    if card is not None:
        return build(call, card)
    return call.load("payment_method", method_id, name="PaymentMethod", param="payment_method")


def update(call: Call, params: Params, method_id: str) -> Json:
    """POST /v1/payment_methods/{id}; only attached ones can change."""
    method = call.load("payment_method", method_id, name="PaymentMethod", param="payment_method")
    if method["customer"] is None:
        raise errors.invalid(
            "You must save this PaymentMethod to a customer before you can update it."
        )
    if "metadata" in params:
        method["metadata"] = merge_metadata(method["metadata"], params["metadata"])
    if "allow_redisplay" in params:
        method["allow_redisplay"] = params["allow_redisplay"]
    method["billing_details"] |= params.get("billing_details", {})
    for name in ("exp_month", "exp_year"):
        if name in params.get("card", {}):
            method["card"][name] = params["card"][name]
    call.store.save(method)
    events.emit(call, "payment_method.updated", method)
    return method


def attach(call: Call, params: Params, method_id: str) -> Json:
    """POST /v1/payment_methods/{id}/attach; the issuer is asked, so a bad card is refused here."""
    customer = customers.load(call, params["customer"])
    card = cards.from_test_id(method_id)
    if card is None:
        method = retrieve(call, {}, method_id)
        card = card_of(call, method)
    else:
        method = build(call, card)
    if method["customer"] not in {None, customer["id"]}:
        raise errors.invalid(
            "The payment method you provided has already been attached to a customer."
        )
    if call.store.hidden(method["id"])["spent"]:
        raise _spent("payment_method")
    if card.decline is not None and not card.attachable:
        raise errors.card_error(card.decline)
    return bind(call, method, customer["id"])


def detach(call: Call, _params: Params, method_id: str) -> Json:
    """POST /v1/payment_methods/{id}/detach; a detached one can never be used again."""
    method = retrieve(call, {}, method_id)
    owner = method["customer"]
    if owner is None:
        raise errors.invalid(
            "The payment method you provided is not attached to a customer so detachment is "
            "impossible."
        )
    method["customer"] = None
    call.store.save(method)
    call.store.hide(method_id, spent=True)
    customer = call.store.get(owner)
    if customer and customer["invoice_settings"]["default_payment_method"] == method_id:
        customer["invoice_settings"]["default_payment_method"] = None
        call.store.save(customer)
    events.emit(call, "payment_method.detached", method, {"customer": owner})
    return method


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/payment_methods."""
    if "customer" in params:
        customers.load(call, params["customer"])
    equal = lists.filters(params, "customer", "type", "allow_redisplay")
    return lists.page(call, params, "payment_method", "/v1/payment_methods", equal=equal)


def _card_details(template: Json, card: cards.Card, params: Params) -> Json:
    return {
        **template,
        "brand": card.brand,
        "display_brand": card.brand,
        "country": card.country,
        "exp_month": params.get("exp_month", 12),
        "exp_year": params.get("exp_year", 2034),
        "fingerprint": f"Sim{card.number[-13:]}",
        "funding": card.funding,
        "generated_from": None,
        "last4": card.last4,
        "networks": {"available": [card.brand], "preferred": None},
        "wallet": None,
    }


def _bank_details(account: cards.Card) -> Json:
    return {
        "account_holder_type": "individual",
        "account_type": "checking",
        "bank_name": "STRIPE TEST BANK",
        "financial_connections_account": None,
        "fingerprint": f"Sim{account.number}",
        "last4": account.last4,
        "networks": {"preferred": "ach", "supported": ["ach"]},
        "routing_number": "110000000",
        "status_details": {},
    }


def _spent(param: str) -> errors.ApiError:
    message = (
        "The provided PaymentMethod was previously used with a PaymentIntent without Customer "
        "attachment, shared with a connected account without Customer attachment, or was detached "
        "from a Customer. It may not be used again. To use a PaymentMethod multiple times, you "
        "must attach it to a Customer first."
    )
    return errors.invalid(message, param=param)
