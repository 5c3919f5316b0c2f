"""What a paid invoice brings, by its metadata, its lines and their prices."""

from __future__ import annotations

import itertools
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import EventError, InvalidAmountError
from shared.payments import invoice_postings, invoices
from shared.payments.invoice_objects import Invoice, InvoicePayment
from shared.payments.invoices import Portion, Share
from shared.payments.model import InvoiceFacts, InvoiceQuestion
from shared.payments.objects import Price
from shared.payments.rules import paid_by
from tests.fixtures.invoice_lines import (
    NOW,
    brought,
    invoice,
    new,
    of_subscription,
    old,
    period,
    price,
    tiered,
)

# Used in December, charged at its end.
USED = new(700, price(None), period={"start": period()["start"] - 86_400, "end": period()["start"]})

# Credits


@pytest.mark.parametrize("form", [new, old])
@pytest.mark.parametrize(
    ("lines", "credits_"),
    [
        ([(1000, price(), {})], 250),
        ([(1000, price("12.5"), {"quantity": 3})], 37.5),
        ([(1000, price(), {"quantity": 0})], 0),
        ([(1500, price(), {"quantity": None, "quantity_decimal": "1.5"})], 375),
        ([(0, price(), {})], 0),
        ([(1000, price(), {"discount_amounts": [{"amount": 999}]})], 250),
        ([(1000, price(), {"discount_amounts": [{"amount": 1000}]})], 0),
        ([(1000, price(None), {})], 0),
        ([(1000, None, {})], 0),
        ([(2000, price(), {"quantity": 2}), (-1000, price(), {})], 250),
        ([(1000, price(), {}), (1000, price("5"), {})], 255),
        # M9: the old price in part back, two units of the new one in part.
        ([(-967, price(), {"proration": True}),
          (1000, price(), {"proration": True, "quantity": 2})], Decimal("8.25")),
        ([(500, price(), {"proration": True}), (-500, price(), {"proration": True})], 0),
        ([(-500, price(), {"proration": True})], -125),
        ([(0, price(), {"proration": True})], 0),
        ([(333, price("1", unit_amount=999), {"proration": True})], Decimal("0.333333333")),
        ([(-333, price("1", unit_amount=999), {"proration": True})], Decimal("-0.333333334")),
        ([(1, price("100", unit_amount=None, unit_amount_decimal="0.5"),
           {"proration": True, "quantity": 4})], 200),
        ([(1000, price("10", transform_quantity={"divide_by": 100, "round": "up"}),
           {"proration": True, "quantity": 150})], 750),
        ([(1000, price("10", transform_quantity={"divide_by": 100, "round": "down"}),
           {"proration": True, "quantity": 150})], 1500),
        ([(777, tiered(), {"proration": True, "period": period(Fraction(1, 2))})], 125),
        ([(-777, tiered(), {"proration": True, "period": period(Fraction(1, 2))})], -125),
        ([(777, price("250", currency="eur"),
           {"proration": True, "period": period(Fraction(1, 2))})], 125),
    ],
)  # fmt: skip
def test_lines_bring_the_credits_of_their_prices(
    form: Any, lines: list[Any], credits_: Any
) -> None:
    paid_invoice = invoice(*(form(amount, of, **more) for amount, of, more in lines))
    assert brought(paid_invoice) == Decimal(str(credits_))


@pytest.mark.parametrize(
    ("recurring", "share"),
    [
        ({"interval": "day", "interval_count": 31}, 1),
        ({"interval": "week", "interval_count": 31}, Fraction(1, 7)),
        ({"interval": "month"}, 1),
        ({"interval": "month", "interval_count": 3}, Fraction(31, 92)),
        ({"interval": "year"}, Fraction(31, 365)),
    ],
)
def test_a_share_without_a_unit_amount_is_that_of_the_interval(
    recurring: dict[str, Any], share: Fraction
) -> None:
    line = new(9, tiered("10220", recurring=recurring), proration=True, period=period())
    expected = Fraction(10220) * share
    assert abs(Fraction(brought(invoice(line))) - expected) < Fraction(1, 10**9)


@pytest.mark.parametrize(
    "line",
    [
        new(9, tiered(), proration=True),
        new(9, tiered(recurring=None), proration=True, period=period()),
        new(9, tiered(recurring={"interval": "moon"}), proration=True, period=period()),
        new(9, tiered(recurring={"interval": "day", "interval_count": 0}), proration=True,
            period=period()),
        new(9, tiered(), proration=True, period={"start": 9, "end": 8}),
        new(9, price(unit_amount=0), proration=True),
        new(9, price(unit_amount=None, unit_amount_decimal="1e99999999"), proration=True),
    ],
)  # fmt: skip
def test_a_share_that_cannot_be_determined_is_a_clear_error(line: dict[str, Any]) -> None:
    with pytest.raises(InvalidAmountError, match="proration of price_1"):
        brought(invoice(line))


@pytest.mark.parametrize(
    ("total", "lines", "credits_"),
    [
        (0, [new(1000, price())], 0),
        (-1, [new(1000, price())], 0),
        (0, [new(1000, price(None)), new(-1000, price(), proration=True)], -250),
        (-500, [new(-500, price(), proration=True)], -125),
        (500, [new(1000, price(None)), new(-500, price(), proration=True)], -125),
    ],
)
def test_what_charges_nothing_adds_nothing_and_may_take_back(
    total: int, lines: list[dict[str, Any]], credits_: int
) -> None:
    assert brought(invoice(*lines, total=total)) == credits_


def test_the_first_that_says_credits_decides() -> None:
    line = new(1000, price("1"))
    parent = of_subscription("2")
    says = {"prepaid_credits": "3"}
    assert brought(invoice(line)) == 1
    assert brought(invoice(line, parent=parent)) == 2
    assert brought(invoice(line, parent=parent, metadata=says)) == 3
    older: dict[str, Any] = {
        "subscription": "sub_1",
        "subscription_details": {"metadata": {"prepaid_credits": "2"}},
    }
    assert brought(invoice(line, **older)) == 2


@pytest.mark.parametrize(
    ("lines", "periods"),
    [
        ([], 1),
        ([new(1000, price(None))], 1),
        ([new(1000, price(None)), new(2000, price(None))], 1),
        ([new(1000, price(None), parent={"invoice_item_details": {"proration": False}})], 0),
        ([old(1000, price(None), type="invoiceitem")], 0),
        ([new(0, price(None))], 0),
        # The first period is a short one, of one price or of two.
        ([new(500, price(None), proration=True)], Fraction(1, 2)),
        ([new(500, price(None), proration=True), new(250, price(None, unit_amount=500),
          proration=True)], Fraction(1, 2)),
        # Another price, another quantity: the shares are equal, whatever their amounts.
        ([new(-500, price(None), proration=True), new(1451, price(None, unit_amount=3000),
          proration=True)], 0),
        ([new(-500, "price_1", proration=True), new(999, "price_2", proration=True)], 0),
        ([new(-500, price(None), proration=True, period=period(Fraction(1, 2))),
          new(900, price(None), proration=True, period=period(Fraction(1, 2))),
          new(-250, price(None), proration=True, period=period(Fraction(1, 4))),
          new(99, price(None), proration=True, period=period(Fraction(1, 4))),
          new(1000, price(None))], 1),
        # From a month to a year: the rest of the month back, a full year.
        ([new(-250, price(None), proration=True), new(9000, price(None))], Fraction(3, 4)),
        ([new(-250, price(None), proration=True)], Fraction(-1, 4)),
        ([new(9, tiered(None), proration=True, period=period(Fraction(1, 2)))], Fraction(1, 2)),
    ],
)  # fmt: skip
def test_a_subscriptions_credits_are_those_of_a_full_period(
    lines: list[dict[str, Any]], periods: Any
) -> None:
    assert brought(invoice(*lines, parent=of_subscription("100"))) == Decimal(float(periods * 100))


@pytest.mark.parametrize(
    ("lines", "periods"),
    [
        ([USED], 0),
        ([USED, new(1000, price(None), period=period())], 1),
        ([new(1000, price(None), period=period())], 1),
        ([USED, new(500, price(None), proration=True, period=period(Fraction(1, 2)))],
         Fraction(1, 2)),
        ([new(1000, price(None))], 1),
    ],
)  # fmt: skip
def test_usage_in_arrears_is_no_period_of_its_subscription(
    lines: list[dict[str, Any]], periods: Any
) -> None:
    """The last invoice of a canceled subscription, or one at a threshold, has usage alone."""
    paid_invoice = invoice(*lines, parent=of_subscription("100"), period_end=period()["start"])
    assert brought(paid_invoice) == Decimal(float(periods * 100))


@pytest.mark.parametrize("said", ["1e9", "-5", "NaN", "0", "9" * 40, "", 5, "0.0000000001", "٣"])
def test_credits_that_are_no_amount_are_refused(said: Any) -> None:
    for paid_invoice in (
        invoice(metadata={"prepaid_credits": said}),
        invoice(parent=of_subscription(said)),
        invoice(new(1000, price(said))),
    ):
        with pytest.raises(InvalidAmountError, match="write credits like 250"):
            brought(paid_invoice)


@pytest.mark.parametrize(
    ("credited", "credits_"),
    [(0, 250), (500, Decimal("187.5")), (1999, Decimal("0.125")), (2000, 0)],
)
@pytest.mark.parametrize(
    "said",
    [
        {"metadata": {"prepaid_credits": "250"}},
        {"parent": of_subscription("250")},
        {"lines": {"data": [new(2000, price())]}},
    ],
)
def test_a_credit_note_before_the_payment_takes_its_part_of_the_credits(
    said: dict[str, Any], credited: int, credits_: Any
) -> None:
    paid_invoice = invoice(**said, pre_payment_credit_notes_amount=credited)
    assert paid_invoice.total_minor == 2000 - credited
    assert brought(paid_invoice) == credits_


def test_more_credits_than_a_ledger_holds_are_refused() -> None:
    with pytest.raises(InvalidAmountError, match="more than"):
        brought(invoice(new(1000, price("9" * 12), quantity=10**10)))


# What Stripe must be asked


@pytest.mark.parametrize(
    ("paid_invoice", "asked"),
    [
        (invoice(new(1, price())), None),
        (invoice(old(1, price())), None),
        (invoice(new(1, None)), None),
        (invoice(new(1, "price_2"), new(1, "price_1"), new(1, "price_2")),
         InvoiceQuestion("acct_1", "in_1", prices=("price_1", "price_2"))),
        (invoice(new(0, "price_1"), new(1, price())), None),
        (invoice(new(1, "price_1"), total=0), None),
        (invoice(new(-1, "price_1"), total=0),
         InvoiceQuestion("acct_1", "in_1", prices=("price_1",))),
        (invoice(new(1, price()), more=True), InvoiceQuestion("acct_1", "in_1", lines=True)),
        (invoice(lines=None), InvoiceQuestion("acct_1", "in_1", lines=True)),
        (invoice(new(1, "price_1"), more=True, metadata={"prepaid_credits": "1"}), None),
        (invoice(new(1, "price_1"), parent=of_subscription("1")), None),
        (invoice(new(1, "price_1", proration=True), new(-1, "price_2", proration=True),
                 parent=of_subscription("1")), None),
        (invoice(new(1, "price_1", proration=True), parent=of_subscription("1")),
         InvoiceQuestion("acct_1", "in_1", prices=("price_1",))),
    ],
)  # fmt: skip
def test_only_what_the_event_lacks_is_asked_for(
    paid_invoice: Invoice, asked: InvoiceQuestion | None
) -> None:
    assert invoices.question(paid_invoice, "acct_1") == asked


def test_the_answers_stand_for_what_the_event_lacks() -> None:
    known = msgspec.convert(price(), type=Price)
    assert brought(invoice(new(1, "price_1")), InvoiceFacts(prices={"price_1": known})) == 250
    lines = invoice(new(1, price()), new(1, "price_1")).lines
    assert lines is not None
    facts = InvoiceFacts(tuple(lines.data), {"price_1": known})
    assert brought(invoice(new(1, price()), more=True), facts) == 500


def test_lines_that_stripe_does_not_know_are_a_clear_error() -> None:
    with pytest.raises(EventError, match="more lines than its event"):
        brought(invoice(new(1, price()), more=True))


# Payments


@pytest.mark.parametrize(
    ("credits_", "payments", "found"),
    [
        ("250", [], [("250", None)]),
        ("250", [("pi_1", 2000)], [("250", "pi_1")]),
        ("250", [("pi_1", 1500)], [("187.5", "pi_1"), ("62.5", None)]),
        ("250", [("pi_1", 1000), ("pi_2", 1000)], [("125", "pi_1"), ("125", "pi_2")]),
        ("1", [("pi_1", 667), ("pi_2", 1333)], [("0.3335", "pi_1"), ("0.6665", "pi_2")]),
        ("1", [("pi_1", 1999), ("pi_2", 1999)], [("0.5", "pi_1"), ("0.5", "pi_2")]),
        ("0.000000001", [("pi_1", 1000)], [("0.000000001", None)]),
    ],
)
def test_each_payment_has_the_share_that_it_paid_for(
    credits_: str, payments: list[tuple[str, int]], found: list[tuple[str, str | None]]
) -> None:
    shares = invoices.shares([Portion(Decimal(credits_))], payments, 2000)
    assert shares == [Share(Decimal(amount), None, name) for amount, name in found]


@given(
    st.lists(st.integers(1, 10**12), min_size=1, max_size=3),
    st.lists(st.integers(1, 10**6), max_size=4),
    st.integers(1, 10**6),
)
def test_shares_add_up_to_what_the_invoice_brings(
    units: list[int], paid: list[int], total: int
) -> None:
    sold = [
        Portion(Decimal(each).scaleb(-9), NOW + timedelta(days=day))
        for day, each in enumerate(units)
    ]
    shares = invoices.shares(sold, [(f"pi_{i}", minor) for i, minor in enumerate(paid)], total)
    for portion in sold:
        of_portion = [s.credits for s in shares if s.expires_at == portion.expires_at]
        assert sum(of_portion) == portion.credits
        assert all(amount > 0 for amount in of_portion)


def test_only_paid_payments_with_a_payment_intent_count() -> None:
    rows: list[dict[str, Any]] = [
        {"status": "paid", "amount_paid": 5, "payment": {"payment_intent": "pi_2"}},
        {"status": "paid", "amount_paid": 7, "payment": {"payment_intent": {"id": "pi_1"}}},
        {"status": "paid", "amount_paid": 1, "payment": {"payment_intent": "pi_2"}},
        {"status": "open", "amount_paid": None, "payment": {"payment_intent": "pi_3"}},
        {"status": "canceled", "amount_paid": 0, "payment": {"payment_intent": "pi_4"}},
        {"status": "paid", "amount_paid": 9, "payment": {"payment_record": "pr_1"}},
    ]
    payments = [msgspec.convert({"id": "inpay_1", **row}, type=InvoicePayment) for row in rows]
    assert paid_by(payments) == [("pi_1", 7), ("pi_2", 6)]


def test_the_rows_of_an_invoice_are_numbered_after_its_key() -> None:
    ids = itertools.count(1)
    shares = [Share(Decimal(n), None, f"pi_{n}") for n in (1, 2, 3)]
    rows = invoice_postings.granted(invoice(), UUID(int=9), shares, lambda: UUID(int=next(ids)))
    assert [row.key for row in rows] == [f"stripe-invoice:in_1{end}" for end in ("", ":2", ":3")]
    assert [row.id.int for row in rows] == [1, 2, 3]
    assert [row.payment_intent_id for row in rows] == ["pi_1", "pi_2", "pi_3"]
    assert {invoice_postings.invoice_of(row.key) for row in rows} == {"in_1"}
    assert invoice_postings.invoice_of("stripe:pi_1") is None
