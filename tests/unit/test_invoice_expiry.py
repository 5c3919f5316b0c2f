"""When the credits of an invoice expire."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.durations import Duration
from shared.payments import invoices
from shared.payments.invoices import Portion
from shared.payments.model import SaleTerms
from tests.fixtures.invoice_lines import (
    JANUARY,
    NOW,
    brought,
    invoice,
    new,
    of_subscription,
    period,
    portions,
    price,
)


def expiring(said: Any, credits_: str = "250") -> dict[str, Any]:
    return price(metadata={"prepaid_credits": credits_, "prepaid_expires": said})


def test_what_expires_at_another_moment_is_another_portion() -> None:
    lines = [
        new(1000, expiring("P10D", "1")),
        new(1000, expiring("period_end", "2"), period=period()),
        new(1000, expiring("P10D", "4")),
        new(1000, price("8")),
    ]
    assert portions(invoice(*lines)) == [
        Portion(Decimal(5), NOW + timedelta(days=10)),
        Portion(Decimal(2), JANUARY[1]),
        Portion(Decimal(8), None),
    ]


def test_the_invoice_or_its_subscription_say_when_credits_expire() -> None:
    ten = NOW + timedelta(days=10)
    line = new(1000, price(), period=period())
    of_invoice: dict[str, Any] = {"metadata": {"prepaid_expires": "P10D"}}
    assert portions(invoice(line, **of_invoice))[0].expires_at == ten
    said = {"prepaid_credits": "1", "prepaid_expires": "period_end"}
    assert portions(invoice(line, metadata=said))[0].expires_at == JANUARY[1]
    parent = of_subscription("1", prepaid_expires="period_end")
    assert portions(invoice(line, parent=parent))[0].expires_at == JANUARY[1]
    assert portions(invoice(line, parent=parent, **of_invoice))[0].expires_at == ten


def test_otherwise_credits_expire_as_the_terms_say() -> None:
    terms = SaleTerms(Decimal(1), purchase_expires=Duration.parse("P1D"))
    (portion,) = portions(invoice(new(1, price())), terms=terms)
    assert portion.expires_at == NOW + timedelta(days=1)


def test_what_is_given_back_is_taken_from_what_would_last_longest() -> None:
    lines = [
        new(1000, expiring("P1D", "10")),
        new(1000, price("10")),
        new(-1000, expiring("P2D", "15"), proration=True),
    ]
    assert portions(invoice(*lines)) == [Portion(Decimal(5), NOW + timedelta(days=1))]


@pytest.mark.parametrize("said", ["soon", "P0D", "-P1D", "P101Y", "PT1.5H", 5])
def test_an_expiry_that_cannot_be_read_is_refused(said: Any) -> None:
    with pytest.raises(invoices.InvalidExpiryError, match="write period_end or a duration"):
        brought(invoice(new(1, expiring(said))))


def test_a_period_end_needs_a_period() -> None:
    with pytest.raises(invoices.InvalidExpiryError, match="have no period"):
        brought(invoice(new(1, expiring("period_end"))))
