"""Charges: the attempts of a PaymentIntent to take money, and their balance transactions.

https://docs.stripe.com/api/charges
"""

from typing import Final

from sandbox.stripe import events, lists, objects
from sandbox.stripe.call import Call
from sandbox.stripe.declines import Decline
from sandbox.stripe.params import Kind, Params, Shape, merge_metadata
from sandbox.stripe.store import Json

LIST: Final[Shape] = {
    **lists.SHAPE,
    "customer": Kind.TEXT,
    "payment_intent": Kind.TEXT,
    "transfer_group": Kind.TEXT,
}
UPDATE: Final[Shape] = {
    "description": Kind.TEXT,
    "expand": Kind.TEXTS,
    "fraud_details": Kind.FREE,
    "metadata": Kind.METADATA,
    "receipt_email": Kind.TEXT,
}
FEE_PERCENT_TENTHS: Final = 29
FEE_FIXED: Final = 30


def begin(call: Call, intent: Json, method: Json) -> Json:
    """Keep a charge whose bank answers later, and tell."""
    charge = _new(call, intent, method) | {
        "amount_captured": intent["amount"],
        "captured": True,
        "receipt_url": None,
        "status": "pending",
    }
    call.store.add(charge)
    events.emit(call, "charge.pending", charge)
    return charge


def succeed(call: Call, charge: Json, *, captured: bool) -> Json:
    """Mark a charge paid and tell; its balance transaction comes with `settle`."""
    charge |= {
        "amount_captured": charge["amount"] if captured else 0,
        "captured": captured,
        "paid": True,
        "status": "succeeded",
        "outcome": _outcome("approved_by_network", "authorized", "Payment complete."),
        "receipt_url": f"{objects.ORIGIN}/receipts/{charge['id']}",
    }
    call.store.save(charge)
    events.emit(call, "charge.succeeded", charge)
    return charge


def fail(call: Call, charge: Json, decline: Decline) -> Json:
    """Mark a charge refused and tell."""
    seller = "The bank did not return any further details with this decline."
    charge |= {
        "failure_code": decline.code,
        "failure_message": decline.message,
        "paid": False,
        "receipt_url": None,
        "status": "failed",
        "outcome": _outcome("declined_by_network", "issuer_declined", seller)
        | {
            "advice_code": decline.advice_code,
            "network_advice_code": decline.network_advice_code,
            "network_decline_code": decline.network_decline_code,
            "reason": decline.decline_code,
        },
    }
    call.store.save(charge)
    events.emit(call, "charge.failed", charge)
    return charge


def settle(call: Call, charge_id: str) -> Json:
    """Give a captured charge its balance transaction and tell.

    Stripe does this a moment after the payment, which is why `charge.succeeded` shows no balance
    transaction and `charge.updated` follows: https://docs.stripe.com/payments/payment-intents/
    asynchronous-capture.
    """
    charge = call.load("charge", charge_id)
    transaction = balance_transaction(
        call, "charge", charge["id"], charge["amount_captured"], charge
    )
    previous = {"balance_transaction": charge["balance_transaction"]}
    charge["balance_transaction"] = transaction["id"]
    call.store.save(charge)
    events.emit(call, "charge.updated", charge, previous)
    return charge


def balance_transaction(call: Call, kind: str, source: str, amount: int, charge: Json) -> Json:
    """Keep one movement of the account's balance: `amount` is signed, only charges cost a fee."""
    fee = amount * FEE_PERCENT_TENTHS // 1000 + FEE_FIXED if kind == "charge" else 0
    detail = {
        "amount": fee,
        "application": None,
        "currency": charge["currency"],
        "description": "Stripe processing fees",
        "type": "stripe_fee",
    }
    transaction = objects.new(
        "balance_transaction",
        {
            "id": call.ids.new("txn"),
            "amount": amount,
            "available_on": call.now + 2 * 86_400,
            "created": call.now,
            "currency": charge["currency"],
            "description": charge["description"],
            "fee": fee,
            "fee_details": [detail] if fee else [],
            "net": amount - fee,
            "reporting_category": "dispute" if kind == "adjustment" else kind,
            "source": source,
            "status": "pending",
            "type": kind,
        },
    )
    return call.store.add(transaction)


def retrieve(call: Call, _params: Params, charge_id: str) -> Json:
    """GET /v1/charges/{id}."""
    return call.load("charge", charge_id)


def update(call: Call, params: Params, charge_id: str) -> Json:
    """POST /v1/charges/{id}."""
    charge = call.load("charge", charge_id)
    changes: Json = {n: params[n] or None for n in ("description", "receipt_email") if n in params}
    changes |= {name: params[name] for name in ("fraud_details",) if name in params}
    if "metadata" in params:
        changes["metadata"] = merge_metadata(charge["metadata"], params["metadata"])
    previous = {name: charge[name] for name in changes if charge[name] != changes[name]}
    call.store.save(charge | changes)
    if previous:
        events.emit(call, "charge.updated", charge | changes, previous)
    return charge | changes


def list_all(call: Call, params: Params) -> Json:
    """GET /v1/charges."""
    equal = lists.filters(params, "customer", "payment_intent", "transfer_group")
    return lists.page(call, params, "charge", "/v1/charges", equal=equal)


def retrieve_balance_transaction(call: Call, _params: Params, transaction_id: str) -> Json:
    """GET /v1/balance_transactions/{id}."""
    return call.load("balance_transaction", transaction_id, name="balance transaction")


def _outcome(network_status: str, kind: str, seller_message: str) -> Json:
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": network_status,
        "reason": None,
        "risk_level": "normal",
        "risk_score": 20,
        "seller_message": seller_message,
        "type": kind,
    }


def _card_details(template: Json, intent: Json, card: Json) -> Json:
    return {
        **template,
        **{name: value for name, value in card.items() if name in template},
        "amount_authorized": intent["amount"],
        "installments": None,
        "network": card["brand"],
        "overcapture": {"maximum_amount_capturable": intent["amount"], "status": "unavailable"},
        "three_d_secure": None,
        "wallet": None,
    }


def _bank_details(account: Json) -> Json:
    copied = ("account_holder_type", "account_type", "bank_name", "fingerprint", "last4")
    shown = {name: account[name] for name in (*copied, "routing_number")}
    return shown | {"payment_reference": None}


def build(call: Call, intent: Json, method: Json) -> Json:
    """Keep the charge of one attempt, of which nobody hears before it has an outcome."""
    return call.store.add(_new(call, intent, method))


def _new(call: Call, intent: Json, method: Json) -> Json:
    template = objects.new("charge", {})
    kind = method["type"]
    details = method[kind]
    if kind == "card":
        details = _card_details(template["payment_method_details"]["card"], intent, details)
    if kind == "us_bank_account":
        details = _bank_details(details)
    copied = (
        "amount",
        "currency",
        "customer",
        "description",
        "metadata",
        "receipt_email",
        "statement_descriptor",
        "statement_descriptor_suffix",
    )
    return template | {
        "id": call.ids.new("ch"),
        "created": call.now,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": intent["statement_descriptor"] or "PREPAID SIMULATOR",
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {kind: details, "type": kind},
        **{name: intent[name] for name in copied},
    }
