"""How the ledgers of organizations add up to the close of a month, and how it is exported."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.errors import ConflictError
from shared.finance.model import (
    Credits,
    CurrencyClose,
    DeferredRevenue,
    FinanceClose,
    Head,
    Movements,
)
from shared.finance.rules import Sums, check_ended, compose, csv_rows
from shared.months import Month

D = Decimal
JANUARY, FEBRUARY = Month(2026, 1), Month(2026, 2)
END = datetime(2026, 2, 1, tzinfo=UTC)


def head(number: int, **fields: Any) -> Head:
    row: dict[str, Any] = {
        "organization_id": UUID(int=number),
        "currency": "usd",
        "before_seq": 2,
        "last_seq": 9,
        "opening": D(10),
        "closing": D(4),
        "debt_opening": D(1),
        "debt_closing": D(3),
        "last_hash": bytes([number]),
    }
    return Head(**row | fields)


def test_a_month_is_closed_an_hour_after_its_end() -> None:
    check_ended(JANUARY, now=END + timedelta(hours=1))
    with pytest.raises(ConflictError) as raised:
        check_ended(JANUARY, now=END + timedelta(minutes=59, seconds=59))
    assert raised.value.detail == "2026-01 cannot be closed before 2026-02-01 01:00 UTC."


def test_ledgers_are_counted_and_added_up_by_currency() -> None:
    sums = Sums()
    sums.add_head(head(1))
    sums.add_head(head(2, last_seq=3, opening=D(5), closing=D(5)))
    sums.add_head(head(3, currency="eur", debt_opening=D(7), debt_closing=D(0)))
    assert (sums.organizations, sums.transactions) == (3, 7 + 1 + 7)
    assert (sums.opening, sums.closing) == (D(25), D(13))
    assert sums.currencies == {
        "usd": CurrencyClose(currency="usd", debt_opening=D(2), debt_closing=D(6)),
        "eur": CurrencyClose(currency="eur", debt_opening=D(7)),
    }


def test_a_ledger_without_rows_is_not_part_of_a_close() -> None:
    sums = Sums()
    sums.add_head(head(1, last_hash=None))
    assert (sums.organizations, sums.transactions, sums.currencies) == (0, 0, {})
    assert sums.hash.hexdigest() == hashlib.sha256().hexdigest()


def test_the_hash_of_a_close_is_of_the_last_row_of_each_ledger() -> None:
    sums = Sums()
    sums.add_head(head(1))
    sums.add_head(head(2, last_seq=3))
    lines = f"{UUID(int=1)} 9 01\n{UUID(int=2)} 3 02\n"
    assert sums.hash.hexdigest() == hashlib.sha256(lines.encode()).hexdigest()


CREDITS = {
    "opening": D(100),
    "added": D(50),
    "returned": D(7),
    "used": D(40),
    "refunded": D(5),
    "expired": D(3),
    "adjusted": D(2),
    "voided": D(1),
}


def test_promotional_credits_have_no_money() -> None:
    sums = Sums()
    for _ in range(2):
        sums.add_movements(Movements("usd", CREDITS, None))
    doubled = {line: 2 * amount for line, amount in CREDITS.items()}
    assert sums.currencies == {
        "usd": CurrencyClose(currency="usd", promotional=Credits(**doubled, closing=D(212)))
    }


@pytest.mark.parametrize(
    ("currency", "opening", "closing"),
    [("usd", "12.34", "2.34"), ("jpy", "1234", "234"), ("kwd", "1.234", "0.234")],
)
def test_paid_credits_have_money_in_units_of_their_currency(
    currency: str, opening: str, closing: str
) -> None:
    sums = Sums()
    sums.add_movements(Movements(currency, CREDITS, {"opening": 1000, "closing": 200}))
    sums.add_movements(Movements(currency, CREDITS, {"opening": 234, "closing": 34}))
    doubled = {line: 2 * amount for line, amount in CREDITS.items()}
    assert sums.currencies == {
        currency: CurrencyClose(
            currency=currency,
            paid=Credits(**doubled, closing=D(212)),
            deferred_revenue=DeferredRevenue(opening=D(opening), closing=D(closing)),
        )
    }


def test_accounts_are_added_up_by_name() -> None:
    sums = Sums()
    sums.add_accounts({"stripe": D(-5), "revenue": D(2)})
    sums.add_accounts({"revenue": D(3)})
    assert sums.accounts == {"stripe": D(-5), "revenue": D(5)}


def small() -> Sums:
    """Return the sums of two organizations in two currencies that add up."""
    sums = Sums()
    zero = dict.fromkeys(CREDITS, D(0))
    sums.add_head(head(1, opening=D(0), closing=D(9), debt_opening=D(0), debt_closing=D(0)))
    sums.add_movements(
        Movements(
            "usd",
            zero | {"added": D(10), "used": D(1)},
            {"added": 1000, "recognised": 100, "closing": 900},
        )
    )
    sums.add_head(
        head(2, currency="eur", opening=D(0), closing=D(2), debt_opening=D(0), debt_closing=D(0))
    )
    sums.add_movements(Movements("eur", zero | {"added": D(2)}, None))
    sums.add_accounts({"stripe": D(-10), "revenue": D(1), "promotions": D(-2)})
    return sums


def test_a_close_has_its_currencies_and_accounts_in_order() -> None:
    sums = small()
    close = compose(FEBRUARY, sums, None, now=END)
    assert close == FinanceClose(
        month="2026-02",
        closed_at=END,
        organizations=2,
        transactions=14,
        ledger_hash=sums.hash.hexdigest(),
        previous_month=None,
        previous_hash=None,
        currencies=[sums.currencies["eur"], sums.currencies["usd"]],
        accounts={
            "organizations": D(11),
            "promotions": D(-2),
            "revenue": D(1),
            "stripe": D(-10),
        },
        organizations_opening=D(0),
        organizations_closing=D(11),
    )
    assert [*close.accounts] == ["organizations", "promotions", "revenue", "stripe"]


def test_a_close_is_exported_with_money_credits_debt_accounts_and_hashes() -> None:
    close = compose(FEBRUARY, small(), None, now=END)
    rows = [*csv_rows(close, b"\x0a")]
    assert rows[0] == ("month", "section", "currency", "line", "amount", "unit")
    assert {row[0] for row in rows[1:]} == {"2026-02"}
    used = [row[1:] for row in rows if row[2] == "usd"]
    assert used[:7] == [
        ("deferred revenue", "usd", "opening", D(0), "USD"),
        ("deferred revenue", "usd", "added", D(10), "USD"),
        ("deferred revenue", "usd", "recognised", D(1), "USD"),
        ("deferred revenue", "usd", "refunded", D(0), "USD"),
        ("deferred revenue", "usd", "breakage", D(0), "USD"),
        ("deferred revenue", "usd", "adjusted", D(0), "USD"),
        ("deferred revenue", "usd", "closing", D(9), "USD"),
    ]
    assert used[8] == ("paid credits", "usd", "added", D(10), "credits")
    assert used[17] == ("promotional credits", "usd", "added", D(0), "credits")
    assert used[-2:] == [
        ("debt", "usd", "opening", D(0), "credits"),
        ("debt", "usd", "closing", D(0), "credits"),
    ]
    assert [row[1:] for row in rows if row[2] is None] == [
        ("trial balance", None, "organizations", D(11), "credits"),
        ("trial balance", None, "promotions", D(-2), "credits"),
        ("trial balance", None, "revenue", D(1), "credits"),
        ("trial balance", None, "stripe", D(-10), "credits"),
        ("hash", None, "ledger", close.ledger_hash, None),
        ("hash", None, "previous close", None, None),
        ("hash", None, "close", "0a", None),
    ]
