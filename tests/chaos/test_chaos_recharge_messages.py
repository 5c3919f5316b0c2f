"""The audit finds an authentication or a suspension that is untold, doubled or has no cause."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.chaos.announcements import messages_untrue
from tests.chaos.books import (
    Attempt,
    Dispute,
    Message,
    Payment,
    ProductBooks,
    Rule,
    StripeBooks,
)
from tests.chaos.journal import Journal
from tests.chaos.recharge_messages import recharge_messages_untrue
from tests.chaos.records import Records

ACME = "acme"
PAID = Payment("pi_1", ACME, 2000, Decimal(20), attempt="a1")
REFUNDED = replace(PAID, refunds=1, returned_minor=500)
DISPUTE = Dispute("dp_1", is_closed=False, payment="pi_1", takes=True)
INQUIRY = replace(DISPUTE, is_inquiry=True, takes=False)
ASKED = Attempt(ACME, "a2", "requires_action", "threshold", "pi_2")
DECLINED = Attempt(ACME, "a3", "failed", "threshold", "pi_3")
REFUSED = {"a2": {"authentication_required"}, "a3": {"card_declined"}}
ASKS = Message("m1", "recharge.requires_action", "delivered", ACME, {"attemptId": "a2"})


def suspended(reason: str, detail: str = "") -> Message:
    about = {"reason": reason, "detail": detail}
    return Message(f"m-{reason}", "recharge.suspended", "delivered", ACME, about)


OF_REFUND = suspended("refunded", "The recharge pi_1 was refunded.")
OF_DISPUTE = suspended("dispute", "pi_1 is disputed: fraudulent.")
OF_INQUIRY = suspended("inquiry", "A payment is under inquiry.")
OF_DECLINES = suspended("declines", "the card was declined: card_declined")


def found(*messages: Message, **changes: Any) -> list[str]:
    """Return what is found in books of one recharge, one that its bank asks about, one declined."""
    payments = [changes.get("payment", PAID)]
    stripe = StripeBooks(
        {payment.id: payment for payment in payments},
        {dispute.id: dispute for dispute in changes.get("disputes", [])},
        changes.get("refused", REFUSED),
    )
    made = Attempt(ACME, "a1", "succeeded", changes.get("trigger", "threshold"), "pi_1")
    product = ProductBooks(
        attempts=[made, changes.get("asked", ASKED), DECLINED],
        messages=[*messages],
        rules=[Rule(ACME, changes.get("state", "active"), changes.get("reason"))],
    )
    return list(recharge_messages_untrue(Records(stripe, product, Journal())))


@pytest.mark.parametrize(
    ("messages", "changes"),
    [
        ([ASKS], {}),
        ([ASKS, OF_REFUND], {"payment": REFUNDED}),
        ([ASKS, OF_REFUND], {"payment": REFUNDED, "state": "suspended", "reason": "refunded"}),
        ([ASKS, OF_DISPUTE], {"disputes": [DISPUTE]}),
        ([ASKS, OF_DISPUTE], {"disputes": [replace(DISPUTE, takes=False)]}),
        ([ASKS], {"disputes": [replace(DISPUTE, takes=False)]}),
        ([ASKS], {"disputes": [DISPUTE], "state": "off"}),
        ([ASKS, OF_INQUIRY], {"disputes": [INQUIRY]}),
        ([ASKS, OF_DECLINES], {"state": "suspended", "reason": "declines"}),
        ([ASKS], {"payment": REFUNDED, "trigger": "top_up"}),
        ([], {"asked": replace(ASKED, state="canceled")}),
        ([ASKS], {"asked": replace(ASKED, trigger="top_up"), "refused": {}}),
    ],
)
def test_what_stripe_caused_and_what_is_told_agree(
    messages: list[Message], changes: dict[str, Any]
) -> None:
    assert found(*messages, **changes) == []


@pytest.mark.parametrize(
    ("messages", "changes", "words"),
    [
        ([], {}, "requires_action of a2 is told 0 times, not 1 to 1"),
        ([ASKS, ASKS], {}, "requires_action of a2 is told 2 times, not 1 to 1"),
        ([ASKS], {"refused": {}}, "requires_action of a2 is told 1 times, not 0 to 0"),
        ([ASKS, replace(ASKS, data={"attemptId": "a9"})], {}, "told of a9, which is no attempt"),
        ([ASKS, OF_REFUND], {}, "(acme, refunded, pi_1) is told 1 times, and Stripe has 0"),
        (
            [ASKS, OF_REFUND],
            {"payment": REFUNDED, "trigger": "top_up"},
            "(acme, refunded, pi_1) is told 1 times, and Stripe has 0",
        ),
        ([ASKS, OF_REFUND, OF_REFUND], {"payment": REFUNDED}, "told 2 times, and Stripe has 1"),
        ([ASKS, OF_DISPUTE], {"disputes": [INQUIRY]}, "(acme, dispute, pi_1) is told 1 times"),
        (
            [ASKS, OF_DISPUTE],
            {"disputes": [replace(DISPUTE, payment="pi_9")]},
            "(acme, dispute, pi_1) is told 1 times",
        ),
        ([ASKS, OF_INQUIRY], {}, "(acme, inquiry) is told 1 times, and Stripe has 0"),
        ([ASKS, *[OF_DECLINES] * 3], {}, "(acme, declines) is told 3 times, and Stripe has 2"),
        ([ASKS, suspended("no_card")], {}, "(acme, no_card) is told 1 times, and Stripe has 0"),
        ([ASKS], {"payment": REFUNDED}, "a recharge of acme is refunded, and no suspension"),
        ([ASKS], {"disputes": [DISPUTE]}, "a payment of acme is disputed, and no suspension"),
        (
            [ASKS, OF_DECLINES],
            {"state": "suspended", "reason": "dispute"},
            "acme is suspended (dispute), and no message says so",
        ),
    ],
)
def test_a_doctored_book_is_found(
    messages: list[Message], changes: dict[str, Any], words: str
) -> None:
    lines = found(*messages, **changes)
    assert any(words in line for line in lines), lines


def test_the_check_is_part_of_the_audit() -> None:
    records = Records(StripeBooks(), ProductBooks(messages=[OF_REFUND]), Journal())
    assert any("refunded" in line for line in messages_untrue(records))
