"""When a dispute suspends auto-recharge, what is announced of it, and whose an event is."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid5

import pytest

from shared.errors import MalformedEventError, UnclaimedError, UnknownOrganizationError
from shared.events import rules
from shared.outbound.model import MessageType, OutboundMessage
from shared.payments.model import PaymentLevel, Sale
from shared.payments.objects import Dispute
from shared.recharge.model import SuspensionReason

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ACME = UUID(int=1)
DISPUTE, INQUIRY = SuspensionReason.DISPUTE, SuspensionReason.INQUIRY
PAYMENT = PaymentLevel(ACME, 2000, "usd", Decimal(20), None)


@pytest.mark.parametrize(
    ("status", "is_new", "was_inquiry", "reason"),
    [
        ("needs_response", True, False, DISPUTE),
        ("needs_response", False, False, None),
        ("needs_response", False, True, DISPUTE),
        ("lost", True, False, DISPUTE),
        ("lost", False, True, DISPUTE),
        ("lost", False, False, None),
        ("won", True, False, None),
        ("won", False, True, None),
        ("warning_needs_response", True, False, INQUIRY),
        ("warning_needs_response", False, False, None),
        ("warning_needs_response", False, True, None),
        ("warning_closed", True, False, None),
        ("warning_closed", False, True, None),
    ],
)
def test_a_dispute_suspends_when_it_opens_or_grows_out_of_an_inquiry_unless_it_is_won(
    status: str, *, is_new: bool, was_inquiry: bool, reason: SuspensionReason | None
) -> None:
    dispute = Dispute("dp_1", status=status)
    assert rules.suspension_of(dispute, is_new=is_new, was_inquiry=was_inquiry) is reason


@pytest.mark.parametrize(("currency", "announced"), [("eur", "eur"), (None, "usd")])
def test_a_dispute_is_announced_once_with_its_money_and_reason(
    currency: str | None, announced: str
) -> None:
    dispute = Dispute(
        "dp_1", amount=1500, currency=currency, status="lost", reason="product_not_received"
    )
    kind = MessageType.DISPUTE_CLOSED
    assert rules.dispute_message(dispute, "pi_1", PAYMENT, kind, NOW) == OutboundMessage(
        organization_id=ACME,
        type=kind,
        data={
            "disputeId": "dp_1",
            "paymentIntentId": "pi_1",
            "status": "lost",
            "reason": "product_not_received",
            "amountMinor": 1500,
            "currency": announced,
        },
        id=uuid5(ACME, "dispute.closed:dp_1"),
        at=NOW,
    )


def test_a_purchase_is_announced_with_what_was_paid() -> None:
    sale = Sale(
        payment_intent_id="pi_1",
        organization_id=ACME,
        gross_minor=1190,
        net_minor=1000,
        currency="usd",
        credits=Decimal(10),
    )
    assert rules.paid_with(sale) == {
        "paymentIntentId": "pi_1",
        "amountMinor": 1190,
        "currency": "usd",
    }


def test_an_event_of_nobody_says_what_it_waits_for() -> None:
    found = rules.unclaimed("cus_1", None)
    assert isinstance(found, UnclaimedError)
    assert found.detail == "No organization has the Stripe customer cus_1."
    assert found.waits_for == "cus_1"


def test_an_event_that_names_an_organization_needs_that_one() -> None:
    found = rules.unclaimed("cus_1", "acme")
    assert isinstance(found, UnknownOrganizationError)
    assert found.detail == (
        "No organization has the id or slug 'acme'. Create it, then replay this event."
    )


def test_an_event_without_a_customer_cannot_be_claimed() -> None:
    found = rules.unclaimed(None, None)
    assert isinstance(found, MalformedEventError)
    assert found.detail == "The event names no customer and no organization."
