"""A close is refused where a sum of it does not tie."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from shared.finance.model import (
    Credits,
    CurrencyClose,
    DeferredRevenue,
    FinanceClose,
    StoredClose,
)
from shared.finance.rules import Sums, UnbalancedCloseError, compose
from shared.months import Month

NOW = datetime(2026, 3, 1, 1, tzinfo=UTC)
JANUARY, FEBRUARY = Month(2026, 1), Month(2026, 2)
D = Decimal
OPENING = "^2026-02: the opening credits are not the balances. Run prepaid ledger verify.$"
CLOSING = "^2026-02: the closing credits are not the balances. Run prepaid ledger verify.$"
# 100 credits for 50, of which 40 are used; 5 of debt.
PART = CurrencyClose(
    currency="usd",
    deferred_revenue=DeferredRevenue(opening=D(50), recognised=D(20), closing=D(30)),
    paid=Credits(opening=D(100), used=D(40), closing=D(60)),
    debt_closing=D(5),
)


def sums(**changes: Any) -> Sums:
    fields: dict[str, Any] = {
        "opening": D(100),
        "closing": D(55),
        "accounts": {"revenue": D(45)},
        "currencies": {"usd": PART},
    }
    return Sums(**fields | changes)


def previous(revenue: int = 50, balances: int = 100) -> StoredClose:
    """Return the close of January."""
    part = replace(PART, deferred_revenue=DeferredRevenue(added=D(revenue), closing=D(revenue)))
    return StoredClose(
        FinanceClose(
            month=str(JANUARY),
            closed_at=NOW,
            organizations=1,
            transactions=1,
            ledger_hash="",
            previous_month=None,
            previous_hash=None,
            currencies=[part],
            accounts={},
            organizations_opening=D(0),
            organizations_closing=D(balances),
        ),
        b"hash",
    )


def test_sums_that_tie_are_a_close() -> None:
    close = compose(FEBRUARY, sums(), previous(), now=NOW)
    assert close.accounts == {"organizations": D(-45), "revenue": D(45)}
    assert (close.previous_month, close.previous_hash) == ("2026-01", b"hash".hex())


def test_a_close_is_compared_with_that_of_the_month_directly_before_it() -> None:
    assert compose(Month(2026, 3), sums(), previous(revenue=51), now=NOW).organizations_opening


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"accounts": {"revenue": D(44)}}, "the accounts add up to -1"),
        (
            {"currencies": {"usd": replace(PART, deferred_revenue=DeferredRevenue(opening=D(50)))}},
            "do not lead from opening to closing",
        ),
        ({"opening": D(99), "accounts": {"revenue": D(44)}}, OPENING),
        ({"closing": D(54), "accounts": {"revenue": D(46)}}, CLOSING),
        ({"currencies": {"usd": replace(PART, debt_closing=D(4))}}, CLOSING),
    ],
)
def test_sums_that_do_not_tie_are_refused(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(UnbalancedCloseError, match=problem):
        compose(FEBRUARY, sums(**wrong), None, now=NOW)


@pytest.mark.parametrize(
    ("before", "problem"),
    [
        (previous(revenue=51), "deferred revenue in usd was 51 at the end of 2026-01 and is 50"),
        (previous(balances=101), "the balances are not those at the end of 2026-01"),
    ],
)
def test_a_month_that_does_not_open_as_the_one_before_closed_is_refused(
    before: StoredClose, problem: str
) -> None:
    with pytest.raises(UnbalancedCloseError, match=problem):
        compose(FEBRUARY, sums(), before, now=NOW)
