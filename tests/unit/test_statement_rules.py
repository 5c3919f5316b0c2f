"""A statement is refused where its rows do not lead from opening to closing."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest

from shared.ledger.model import TransactionType
from shared.months import Month
from shared.statements.model import CategoryTotal, Line, Position, Statement, Total
from shared.statements.rules import UnbalancedStatementError, compose, csv_rows

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
    with pytest.raises(UnbalancedStatementError) as raised:
        composed(closing)
    assert raised.value.detail == (
        "The rows of 2026-01 add 7.5 credits to 1.5, and the ledger of organization"
        f" 00000000-0000-0000-0000-000000000001 has {closing}. Run prepaid ledger verify."
    )


def busy() -> Statement:
    """Return the statement of a month with bonuses, disputes and usage of several categories."""
    parts = [
        (TransactionType.GRANT, CategoryTotal(None, Total(Decimal(7), 1))),
        (TransactionType.BONUS, CategoryTotal(None, Total(Decimal(3), 2))),
        (TransactionType.DISPUTE, CategoryTotal(None, Total(Decimal(-5), 1))),
        (TransactionType.DISPUTE_REVERSAL, CategoryTotal(None, Total(Decimal(5), 1))),
        (TransactionType.USAGE, CategoryTotal(None, Total(Decimal(-9), 90), is_rest=True)),
        (TransactionType.USAGE, CategoryTotal("chat", Total(Decimal(-1), 1))),
        (TransactionType.USAGE, CategoryTotal(None, Total(Decimal(-1), 1))),
        (TransactionType.USAGE, CategoryTotal("AUDIO", Total(Decimal(-1), 1))),
        (TransactionType.HOLD_CAPTURE, CategoryTotal("image", Total(Decimal(-2), 1))),
    ]
    return compose(
        UUID(int=1),
        Month(2026, 1),
        complete=False,
        opening=Position(0, Decimal(0), None),
        closing=Position(99, Decimal(-4), b"\x02"),
        totals=parts,
    )


def test_rows_of_one_reason_are_one_line_and_other_lines_are_zero() -> None:
    lines = busy().lines
    assert [*lines] == [*Line]
    assert lines[Line.GRANTED] == Total(Decimal(10), 3)
    assert lines[Line.DISPUTED] == Total(Decimal(0), 2)
    assert lines[Line.USED] == Total(Decimal(-14), 94)
    assert lines[Line.PURCHASED] == Total()


def test_a_statement_says_whose_it_is_and_whether_its_month_has_ended() -> None:
    for statement, complete in ((composed("9"), True), (busy(), False)):
        assert (statement.organization_id, statement.month) == (UUID(int=1), Month(2026, 1))
        assert statement.complete is complete
    assert composed("9").opening == OPENING
    assert composed("9").closing == Position(6, Decimal(9), b"2")


def test_categories_with_the_most_usage_come_first_and_their_rest_last() -> None:
    found = [(part.category, part.is_rest) for part in busy().used]
    assert found == [
        ("image", False),
        (None, False),
        ("AUDIO", False),
        ("chat", False),
        (None, True),
    ]


def test_a_statement_is_exported_line_by_line_from_opening_to_closing() -> None:
    assert [*csv_rows(busy())] == [
        ("line", "category", "amount", "transactions", "sequence", "hash"),
        ("opening", None, Decimal(0), None, 0, None),
        ("purchased", None, Decimal(0), 0, None, None),
        ("recharged", None, Decimal(0), 0, None, None),
        ("granted", None, Decimal(10), 3, None, None),
        ("used", "image", Decimal(-2), 1, None, None),
        ("used", "(none)", Decimal(-1), 1, None, None),
        ("used", "AUDIO", Decimal(-1), 1, None, None),
        ("used", "chat", Decimal(-1), 1, None, None),
        ("used", "(other)", Decimal(-9), 90, None, None),
        ("expired", None, Decimal(0), 0, None, None),
        ("refunded", None, Decimal(0), 0, None, None),
        ("disputed", None, Decimal(0), 2, None, None),
        ("adjusted", None, Decimal(0), 0, None, None),
        ("voided", None, Decimal(0), 0, None, None),
        ("closing", None, Decimal(-4), 99, 99, "02"),
    ]
