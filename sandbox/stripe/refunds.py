"""Refunds. https://docs.stripe.com/api/refunds."""

from typing import Final

from sandbox.stripe import cards, charges, currencies, errors, events, lists, objects
from sandbox.stripe import payment_methods as methods
from sandbox.stripe.call import Call
from sandbox.stripe.params import Choice, Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

CREATE: Final[Shape] = {
    "amount": Kind.INTEGER,
    "charge": Kind.TEXT,
    "expand": Kind.TEXTS,
    "instructions_email": Kind.TEXT,
    "metadata": Kind.METADATA,
    "payment_intent": Kind.TEXT,
    "reason": Choice(("duplicate", "fraudulent", "requested_by_customer")),
    "refund_application_fee": Kind.BOOLEAN,
    "reverse_transfer": Kind.BOOLEAN,
}
UPDATE: Final[Shape] = {"expand": Kind.TEXTS, "metadata": Kind.METADATA}
LIST: Final[Shape] = {**lists.SHAPE, "charge": Kind.TEXT, "payment_intent": Kind.TEXT}


def create(call: Call, params: Params) -> Json:
    """POST /v1/refunds: the whole rest of a charge, or a part of it."""
    charge = _charge(call, params)
    rest = charge["amount"] - charge["amount_refunded"]
    amount = params.get("amount", rest)
    _check(charge, amount, rest)
    refund = _new(call, charge, amount)
    movement = charges.balance_transaction(call, "refund", refund["id"], -amount, charge)
    refund |= {
        "balance_transaction": movement["id"],
        "metadata": merge_metadata({}, params.get("metadata")),
        "reason": params.get("reason"),
    }
    call.store.add(refund)
    previous = {name: charge[name] for name in ("amount_refunded", "refunded", "receipt_url")}
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    call.store.save(charge)
    events.emit(call, "refund.created", refund)
    events.emit(call, "charge.refunded", charge, previous)
    _tell_arrival(call, refund)
    if (
        methods.card_of(call, call.load("payment_method", charge["payment_method"])).after_charge
        is cards.AfterCharge.REFUND_FAILS
    ):
        return fail(call, refund["id"])
    return refund


def release(call: Call, charge: Json, amount: int) -> Json:
    """Refund what a partial capture leaves of an authorization; no money moves.

    The caller saves the charge.
    """
    charge["amount_refunded"] += amount
    refund = call.store.add(_new(call, charge, amount))
    events.emit(call, "refund.created", refund)
    return refund


def retrieve(call: Call, _params: Params, refund_id: str) -> Json:
    """GET /v1/refunds/{id}."""
    return call.load("refund", refund_id)


def update(call: Call, params: Params, refund_id: str) -> Json:
    """POST /v1/refunds/{id}: metadata alone can change."""
    refund = call.load("refund", refund_id)
    previous = {"metadata": refund["metadata"]}
    refund["metadata"] = merge_metadata(refund["metadata"], params.get("metadata"))
    call.store.save(refund)
    events.emit(call, "refund.updated", refund, previous)
    return refund


def fail(call: Call, refund_id: str, reason: str = "expired_or_canceled_card") -> Json:
    """Let the bank give a refund back: its money returns to the account and it counts no more.

    https://docs.stripe.com/refunds#failed-refunds
    """
    refund = call.load("refund", refund_id)
    if refund["status"] not in {"pending", "succeeded"}:
        raise errors.invalid(f"This refund cannot fail: it is {refund['status']}.")
    charge = call.load("charge", refund["charge"])
    movement = charges.balance_transaction(
        call, "refund_failure", refund["id"], refund["amount"], charge
    )
    previous = {"status": refund["status"]}
    refund |= {
        "status": "failed",
        "failure_reason": reason,
        "failure_balance_transaction": movement["id"],
    }
    call.store.save(refund)
    charge["amount_refunded"] -= refund["amount"]
    charge["refunded"] = False
    call.store.save(charge)
    events.emit(call, "refund.updated", refund, previous)
    events.emit(call, "refund.failed", refund)
    return refund


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/refunds."""
    equal = lists.filters(params, "charge", "payment_intent")
    return lists.page(call, params, "refund", "/v1/refunds", equal=equal)


def _new(call: Call, charge: Json, amount: int) -> Json:
    return objects.new(
        "refund",
        {
            "id": call.ids.new("re"),
            "amount": amount,
            "balance_transaction": None,
            "charge": charge["id"],
            "created": call.now,
            "currency": charge["currency"],
            "destination_details": {
                "card": {
                    "reference_status": "pending",
                    "reference_type": "acquirer_reference_number",
                    "type": "refund",
                },
                "type": "card",
            },
            "metadata": {},
            "payment_intent": charge["payment_intent"],
            "reason": None,
            "status": "succeeded",
        },
    )


def _charge(call: Call, params: Params) -> Json:
    if "charge" in params:
        return call.load("charge", params["charge"], param="charge")
    if "payment_intent" not in params:
        raise errors.malformed(
            "One of the following params should be provided: payment_intent, charge."
        )
    intent = call.load("payment_intent", params["payment_intent"], param="payment_intent")
    if intent["status"] != "succeeded":
        message = (
            f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
        )
        raise errors.invalid(message, param="payment_intent")
    return call.load("charge", intent["latest_charge"])


def _check(charge: Json, amount: int, rest: int) -> None:
    if charge["status"] != "succeeded":
        raise errors.invalid(f"Charge {charge['id']} has not succeeded.", param="charge")
    if charge["disputed"]:
        raise errors.invalid(
            f"Charge {charge['id']} has been charged back; cannot issue a refund.",
            code="charge_disputed",
        )
    if rest == 0:
        raise errors.invalid(
            f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded"
        )
    if amount < 1:
        raise errors.malformed(
            "This value must be greater than or equal to 1.",
            param="amount",
            code="parameter_invalid_integer",
        )
    if amount > rest:
        asked, left = (currencies.shown(n, charge["currency"]) for n in (amount, rest))
        raise errors.invalid(
            f"Refund amount ({asked}) is greater than unrefunded amount on charge ({left})",
            param="amount",
        )


def _tell_arrival(call: Call, refund: Json) -> None:
    # Stripe adds the acquirer's reference a moment later; https://docs.stripe.com/refunds
    previous = {"destination_details": {"card": {"reference_status": "pending"}}}
    refund["destination_details"]["card"] |= {
        "reference": "".join(filter(str.isdigit, call.ids.text(60)))[:11],
        "reference_status": "available",
    }
    call.store.save(refund)
    events.emit(call, "refund.updated", refund, previous)
