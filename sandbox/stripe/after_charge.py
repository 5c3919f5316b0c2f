"""Effects of test cards after a successful charge: disputes and early fraud warnings.

https://docs.stripe.com/testing#disputes
"""

from typing import Final

from sandbox.stripe import charges, errors, events, lists, objects
from sandbox.stripe.call import Call
from sandbox.stripe.cards import AfterCharge, Card
from sandbox.stripe.params import Kind, Params, Shape
from sandbox.stripe.store import Json

DISPUTE_FEE: Final = 1500
WARNING: Final = "radar.early_fraud_warning"
LIST_WARNINGS: Final[Shape] = {**lists.SHAPE, "charge": Kind.TEXT, "payment_intent": Kind.TEXT}
EVIDENCE_SECONDS: Final = 9 * 86_400


def follow(call: Call, charge: Json, card: Card) -> None:
    """Apply the effect of the card."""
    match card.after_charge:
        case AfterCharge.DISPUTE_FRAUDULENT | AfterCharge.DISPUTE_NOT_RECEIVED:
            dispute(call, charge, card.after_charge.value)
        case AfterCharge.EARLY_FRAUD_WARNING:
            warn(call, charge)
        case _:
            return


def dispute(
    call: Call, charge: Json, reason: str, *, amount: int | None = None, inquiry: bool = False
) -> Json:
    """Open a dispute over the whole charge or a part and withdraw its money.

    An inquiry withdraws nothing yet: https://docs.stripe.com/disputes/how-disputes-work#inquiries
    """
    if charge["status"] != "succeeded" or charge["disputed"]:
        raise errors.invalid(f"Charge {charge['id']} cannot be disputed (again).")
    disputed = charge["amount_captured"] if amount is None else amount
    if not 1 <= disputed <= charge["amount_captured"]:
        raise errors.invalid("A dispute is over a part of what was captured.", param="amount")
    template = objects.new("dispute", {})
    opened = template | {
        "id": call.ids.new("dp"),
        "amount": disputed,
        "charge": charge["id"],
        "created": call.now,
        "currency": charge["currency"],
        "livemode": False,
        "evidence_details": {
            **template["evidence_details"],
            "due_by": call.now + EVIDENCE_SECONDS,
        },
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {
                **template["payment_method_details"]["card"],
                "brand": charge["payment_method_details"]["card"]["brand"],
                "case_type": "inquiry" if inquiry else "chargeback",
            },
            "type": "card",
        },
        "reason": reason,
        "status": "warning_needs_response" if inquiry else "needs_response",
    }
    call.store.add(opened)
    charge["disputed"] = True
    call.store.save(charge)
    if inquiry:
        events.emit(call, "charge.dispute.created", opened)
        return opened
    _move(call, opened, charge)
    events.emit(call, "charge.dispute.created", opened)
    events.emit(call, "charge.dispute.funds_withdrawn", opened)
    return opened


def escalate(call: Call, dispute_id: str) -> Json:
    """Turn an inquiry into a chargeback: only now its money is withdrawn."""
    opened = call.load("dispute", dispute_id)
    if not opened["status"].startswith("warning_") or opened["status"] == "warning_closed":
        raise errors.invalid(f"This dispute is no open inquiry: it is {opened['status']}.")
    previous = {"status": opened["status"]}
    opened["status"] = "needs_response"
    opened["payment_method_details"]["card"]["case_type"] = "chargeback"
    _move(call, opened, call.load("charge", opened["charge"]))
    events.emit(call, "charge.dispute.updated", opened, previous)
    events.emit(call, "charge.dispute.funds_withdrawn", opened)
    return opened


def _move(call: Call, opened: Json, charge: Json) -> None:
    movement = charges.balance_transaction(
        call, "adjustment", opened["id"], -opened["amount"], charge
    )
    movement |= {"fee": DISPUTE_FEE, "net": movement["amount"] - DISPUTE_FEE}
    call.store.save(movement)
    opened["balance_transactions"].append(movement)
    call.store.save(opened)


def warn(call: Call, charge: Json, fraud_type: str = "made_with_stolen_card") -> Json:
    """Tell that the issuer suspects fraud; no money moves. https://docs.stripe.com/radar."""
    warning = objects.new(
        WARNING,
        {
            "id": call.ids.new("issfr"),
            "charge": charge["id"],
            "created": call.now,
            "fraud_type": fraud_type,
            "payment_intent": charge["payment_intent"],
        },
    )
    call.store.add(warning)
    events.emit(call, "radar.early_fraud_warning.created", warning)
    return warning


def retrieve_warning(call: Call, _params: Params, warning_id: str) -> Json:
    """GET /v1/radar/early_fraud_warnings/{id}."""
    return call.load(WARNING, warning_id, name="early fraud warning")


def list_warnings(call: Call, params: Params) -> Json:
    """GET /v1/radar/early_fraud_warnings."""
    equal = lists.filters(params, "charge", "payment_intent")
    return lists.page(call, params, WARNING, "/v1/radar/early_fraud_warnings", equal=equal)
