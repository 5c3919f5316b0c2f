"""Events of refunds and disputes, with Stripe's answer about their payment."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

from shared.events.model import ApplyContext
from shared.inbox.model import ClaimedEvent, EventKey
from shared.payments.model import PaymentFacts, PaymentQuestion, SaleTerms
from shared.payments.objects import Dispute, PaymentIntent
from shared.payments.translator import from_answer
from tests.explorer.recharge_state import Asked
from tests.explorer.recharge_tables import BEGINNING, Tables
from tests.explorer.stepping import Port
from tests.explorer.stripe_model import AMOUNT_MINOR

REFUNDED_MINOR = 800  # a part: a dispute of the whole payment takes the rest
REFUNDED_CREDITS = Decimal(8)


def reversal_event(port: Port[Tables], answer: Asked) -> ClaimedEvent:
    """Return the event of a refund or dispute. It names the payment, and no amount is read."""
    kind = "dispute" if answer.of_dispute else "charge"
    name = "charge.dispute.created" if answer.of_dispute else "charge.refunded"
    about = {"id": f"{kind}_{answer.intent}", "object": kind, "payment_intent": answer.intent}
    event_id = f"evt_{name}_{answer.intent}_{answer.number}"
    event = {
        "id": event_id,
        "object": "event",
        "type": name,
        "created": int(port.now().timestamp()),
        "data": {"object": about},
    }
    return ClaimedEvent(
        key=EventKey("", livemode=False, id=event_id),
        type=name,
        api_version=None,
        payload=json.dumps(event),
        attempts=1,
        received_at=port.now(),
        request_id=None,
    )


def answered(
    port: Port[Tables], terms: SaleTerms, intent: dict[str, Any], answer: Asked
) -> ApplyContext:
    """Return the context in which an event is applied with Stripe's answer about its payment."""
    disputes: list[Dispute] = []
    if answer.disputed:
        dispute = {
            "id": f"dp_{answer.intent.removeprefix('pi_')}",
            "object": "dispute",
            "amount": AMOUNT_MINOR,
            "currency": "usd",
            "status": "needs_response",
            "reason": "fraudulent",
            "created": int(BEGINNING.timestamp()),
            "payment_intent": answer.intent,
        }
        disputes.append(from_answer(dispute, Dispute))
    facts = PaymentFacts(
        from_answer(intent, PaymentIntent),
        REFUNDED_MINOR if answer.refunded else 0,
        AMOUNT_MINOR if answer.disputed else 0,
        tuple(disputes),
    )
    question = PaymentQuestion("", answer.intent, reversals=True)
    return ApplyContext(
        terms=terms,
        make_id=port.make_id,
        now=port.now(),
        answers={question: facts, question._replace(origin=False): facts},
        as_of=BEGINNING + timedelta(seconds=answer.number),
    )
