"""A statement is refused where its rows do not lead from opening to closing."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest

from shared.ledger.model import TransactionType
from shared.months import Month
from shared.statements.model import CategoryTotal, Line, Position, Statement, Total
from shared.statements.rules import UnbalancedStatementError, compose

OPENING = Position(3, Decimal("1.5"), b"1")


def composed(closing: str) -> Statement:
    """Return the statement of a month that adds 10 credits and uses 2.5."""
    return compose(
        UUID(int=1),
        Month(2026, 1),
        complete=True,
        opening=OPENING,
        closing=Position(6, Decimal(closing), b"2"),
        totals=[
            (TransactionType.PURCHASE, CategoryTotal(None, Total(Decimal(10), 1))),
            (TransactionType.USAGE, CategoryTotal("chat", Total(Decimal("-2.5"), 2))),
        ],
    )


def test_rows_that_lead_to_the_closing_balance_make_a_statement() -> None:
    found = composed("9")
    assert found.transactions == 3
    assert found.lines[Line.USED] == Total(Decimal("-2.5"), 2)


@pytest.mark.parametrize("closing", ["9.000000001", "8.999999999", "0"])
def test_rows_that_do_not_lead_to_the_closing_balance_are_refused(closing: str) -> None:
    with pytest.raises(UnbalancedStatementError, match=r"add 7\.5 credits to 1\.5"):
        composed(closing)
