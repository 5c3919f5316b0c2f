"""What test cards let happen after a successful charge: disputes and early fraud warnings.

https://docs.stripe.com/testing#disputes
"""

from typing import Final

from sandbox.stripe import charges, events, objects
from sandbox.stripe.call import Call
from sandbox.stripe.cards import Aftermath, Card
from sandbox.stripe.store import Json

DISPUTE_FEE: Final = 1500
EVIDENCE_SECONDS: Final = 9 * 86_400


def follow(call: Call, charge: Json, card: Card) -> None:
    """Do what the card is made for."""
    match card.aftermath:
        case Aftermath.DISPUTE_FRAUDULENT | Aftermath.DISPUTE_NOT_RECEIVED:
            dispute(call, charge, card.aftermath.value)
        case Aftermath.EARLY_FRAUD_WARNING:
            _warn(call, charge)
        case _:
            return


def dispute(call: Call, charge: Json, reason: str) -> Json:
    """Open a dispute over the whole charge and withdraw its money."""
    dispute_id = call.ids.new("dp")
    movement = charges.balance_transaction(
        call, "adjustment", dispute_id, -charge["amount_captured"], charge
    )
    movement |= {"fee": DISPUTE_FEE, "net": movement["amount"] - DISPUTE_FEE}
    call.store.save(movement)
    template = objects.new("dispute", {})
    opened = template | {
        "id": dispute_id,
        "amount": charge["amount_captured"],
        "balance_transactions": [movement],
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
                "case_type": "chargeback",
            },
            "type": "card",
        },
        "reason": reason,
        "status": "needs_response",
    }
    call.store.add(opened)
    charge["disputed"] = True
    call.store.save(charge)
    events.emit(call, "charge.dispute.created", opened)
    events.emit(call, "charge.dispute.funds_withdrawn", opened)
    return opened


def _warn(call: Call, charge: Json) -> None:
    warning = objects.new(
        "radar.early_fraud_warning",
        {
            "id": call.ids.new("issfr"),
            "charge": charge["id"],
            "created": call.now,
            "fraud_type": "made_with_stolen_card",
            "payment_intent": charge["payment_intent"],
        },
    )
    call.store.add(warning)
    events.emit(call, "radar.early_fraud_warning.created", warning)
