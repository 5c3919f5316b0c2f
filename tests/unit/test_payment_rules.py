"""What refunds and disputes take back of a payment, and which payments paid an invoice."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.money import CREDIT_QUANTUM
from shared.payments import rules
from shared.payments.invoice_objects import InvoicePayment
from shared.payments.objects import (
    CheckoutSession,
    Dispute,
    PaymentIntent,
    Presentment,
    Refund,
)

INTENT = msgspec.convert(
    {
        "id": "pi_1",
        "object": "payment_intent",
        "status": "succeeded",
        "amount_received": 1000,
        "currency": "usd",
    },
    PaymentIntent,
)


def dispute(status: str = "needs_response", *moved: tuple[int, str | None]) -> Dispute:
    fields: dict[str, Any] = {
        "id": "dp_1",
        "object": "dispute",
        "amount": 1000,
        "currency": "usd",
        "status": status,
        "balance_transactions": [{"amount": m, "currency": name} for m, name in moved],
    }
    return msgspec.convert(fields, Dispute)


def refund(amount: int, status: str, movement: str | None = "txn_1") -> Refund:
    fields = {"id": "re_1", "object": "refund", "amount": amount, "status": status}
    return msgspec.convert(fields | {"balance_transaction": movement}, Refund)


def test_a_refund_counts_unless_it_failed_or_was_canceled() -> None:
    refunds = [
        refund(1, "pending"),
        refund(2, "requires_action"),
        refund(4, "succeeded"),
        refund(8, "failed"),
        refund(16, "canceled"),
    ]
    found = rules.facts(INTENT, refunds, [])
    assert (found.refunded_minor, found.withdrawn_minor, found.disputes) == (7, 0, ())


@pytest.mark.parametrize(
    ("authorized", "refunds", "refunded"),
    [
        (2500, [(1500, None)], 0),
        (2500, [(1500, "txn_1")], 0),  # nobody can refund more than was captured
        (1400, [(400, None)], 0),
        (1400, [(400, "txn_1")], 400),
        (1400, [(400, None), (400, "txn_1")], 400),
        (1400, [(400, None), (400, None)], 400),  # one of them waits for its money
        (2500, [(1000, "txn_1"), (1500, None)], 1000),
        (1400, [(300, None)], 300),
        (1000, [(1000, None)], 1000),
        (0, [(1000, None)], 1000),
    ],
)
def test_the_released_rest_of_a_partial_capture_is_no_refund(
    authorized: int, refunds: list[tuple[int, str | None]], refunded: int
) -> None:
    intent = msgspec.structs.replace(INTENT, amount=authorized)
    given = [refund(amount, "succeeded", movement) for amount, movement in refunds]
    assert rules.facts(intent, given, []).refunded_minor == refunded


def test_the_facts_of_a_payment_have_its_disputes_its_session_and_its_invoice() -> None:
    disputes = [dispute("lost", (-300, "usd")), dispute("lost", (-400, "usd"))]
    fields = {
        "id": "cs_1",
        "object": "checkout.session",
        "mode": "payment",
        "payment_status": "paid",
    }
    session = msgspec.convert(fields, CheckoutSession)
    found = rules.facts(INTENT, [], disputes, session=session, invoice_id="in_1")
    assert (found.payment_intent, found.session, found.invoice_id) == (INTENT, session, "in_1")
    assert (found.withdrawn_minor, found.disputes) == (700, tuple(disputes))


@pytest.mark.parametrize(
    ("moved", "withdrawn"),
    [
        ([], 0),
        ([(-1000, "usd")], 1000),
        ([(-1000, None)], 1000),
        ([(-1000, "usd"), (1000, "usd")], 0),
        ([(-1000, "usd"), (400, "usd")], 600),
        # In another currency than the payment's, a movement is the whole dispute.
        ([(-870, "eur")], 1000),
        ([(-870, "eur"), (870, "eur")], 0),
        ([(-870, "eur"), (870, "eur"), (-870, "eur")], 1000),
        ([(-870, "eur"), (-10, "eur")], 1000),
        ([(870, "eur")], 0),
        ([(-1000, "usd"), (870, "eur")], 0),
        ([(-870, "eur"), (0, "eur")], 1000),
        ([(-1, "eur"), (1, "eur")], 0),
    ],
)
def test_a_dispute_withdrew_what_its_movements_say(
    moved: list[tuple[int, str | None]], withdrawn: int
) -> None:
    found = dispute("lost", *moved)
    assert rules.withdrawn_minor(found, 5000, "usd") == withdrawn


GBP = Presentment(800, "gbp")


@pytest.mark.parametrize(
    ("amount", "movement", "shown", "withdrawn"),
    [
        (800, (-1010, "usd"), GBP, 1000),  # in full, at another rate than the payment's
        (400, (-505, "usd"), GBP, 500),
        (400, (-400, "gbp"), GBP, 500),
        (801, (-800, "gbp"), GBP, 1000),
        (1, (-1, "gbp"), GBP, 1),
        (800, (-1010, "usd"), None, 1000),
        (800, (-1010, "usd"), Presentment(800, "eur"), 1000),
        (800, (1010, "usd"), GBP, 0),
    ],
)
def test_a_dispute_in_the_customers_currency_withdrew_its_share_of_the_price_shown(
    amount: int, movement: tuple[int, str], shown: Presentment | None, withdrawn: int
) -> None:
    found = msgspec.structs.replace(dispute("lost", movement), amount=amount, currency="gbp")
    assert rules.withdrawn_minor(found, 1000, "usd", shown) == withdrawn


@pytest.mark.parametrize(
    ("status", "inquiry", "closed"),
    [
        ("warning_needs_response", True, False),
        ("warning_under_review", True, False),
        ("warning_closed", True, True),
        ("needs_response", False, False),
        ("under_review", False, False),
        ("won", False, True),
        ("lost", False, True),
        ("prevented", False, True),
    ],
)
def test_a_dispute_is_an_inquiry_or_not_and_open_or_closed(
    status: str, *, inquiry: bool, closed: bool
) -> None:
    found = dispute(status)
    assert (rules.is_inquiry(found), rules.is_closed(found)) == (inquiry, closed)


def paid(name: str | None, amount: int | None, status: str = "paid") -> InvoicePayment:
    fields: dict[str, Any] = {"id": "inpay_1", "amount_paid": amount, "status": status}
    if name is not None:
        fields["payment"] = {"type": "payment_intent", "payment_intent": name}
    return msgspec.convert(fields, InvoicePayment)


def test_an_invoice_is_paid_by_its_payment_intents_each_with_its_sum() -> None:
    payments = [
        paid("pi_b", 300),
        paid("pi_a", 200),
        paid("pi_b", 50),
        paid("pi_c", 400, "open"),
        paid("pi_d", 0),
        paid("pi_d", None),
        paid(None, 500),
        paid("pi_e", 1),
    ]
    assert rules.paid_by(payments) == [("pi_a", 200), ("pi_b", 350), ("pi_e", 1)]


@given(
    credited=st.decimals(0, 10**9, places=9),
    amount=st.integers(1, 10**9),
    minor=st.integers(-10, 2 * 10**9),
)
def test_a_share_is_in_proportion_and_never_more_than_was_credited(
    credited: Decimal, amount: int, minor: int
) -> None:
    part = rules.share(credited, minor, amount)
    if minor >= amount:
        assert part == credited
    else:
        exact = credited * max(minor, 0)
        assert part * amount <= exact < (part + CREDIT_QUANTUM) * amount


def test_a_share_is_truncated_to_the_ledgers_decimals() -> None:
    assert rules.share(Decimal(25), 999, 1000) == Decimal("24.975")
    assert rules.share(Decimal(1), 2, 3) == Decimal("0.666666666")
    assert rules.share(Decimal(1), 1, 1) == 1
    most = Decimal("987654321987654321.123456789")
    assert rules.share(most, 10**15 - 1, 10**15 - 1) == most
    assert rules.share(Decimal(1), -1, 1) == 0
