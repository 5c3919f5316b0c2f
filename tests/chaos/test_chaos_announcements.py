"""The audit follows each balance, and finds a message that is missing, doubled or untrue."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tests.chaos.announcements import messages_untrue
from tests.chaos.books import Account, Message, ProductBooks, Row, StripeBooks
from tests.chaos.journal import Journal
from tests.chaos.records import Records

ACME = "acme"


def found(
    balances: list[int], announced: dict[int, str], *, threshold: int | None = 10, moments: str = ""
) -> list[str]:
    """Return what is found: messages by their row; rows of one letter are one posting."""
    rows, before = [], 0
    moments = moments or "abcdefghij"
    for seq, balance in enumerate(balances, start=1):
        at = datetime(2031, 1, 1, 0, 0, ord(moments[seq - 1]) - ord("a"), tzinfo=UTC)
        change = Decimal(balance - before)
        rows.append(Row(ACME, seq, "usage", change, Decimal(balance), f"k{seq}", at=at))
        before = balance
    messages = [
        Message(f"m{seq}", f"credits.{kind}", "delivered", ACME, cause=seq)
        for seq, kind in announced.items()
    ]
    below = None if threshold is None else Decimal(threshold)
    account = Account(ACME, Decimal(before), Decimal(0), len(rows), below)
    product = ProductBooks(rows, [account], messages=messages)
    return list(messages_untrue(Records(StripeBooks(), product, Journal())))


@pytest.mark.parametrize(
    ("balances", "announced"),
    [
        ([20, 15], {}),
        ([20, 5, 3], {2: "low"}),
        ([20, 5, 12, 4], {2: "low", 3: "recovered", 4: "low"}),
        ([20, 0, 5, -1, 30], {2: "depleted", 4: "depleted", 5: "recovered"}),
        ([20, 5, -2, -4, 10], {2: "low", 3: "depleted", 5: "recovered"}),
        ([-3, -5], {}),
    ],
)
def test_true_messages_are_no_violation(balances: list[int], announced: dict[int, str]) -> None:
    assert found(balances, announced) == []


@pytest.mark.parametrize(
    ("balances", "announced", "words"),
    [
        ([20, 5], {}, "nothing is the last announcement at row 2 of acme, which leaves 5"),
        ([20, 0], {}, "nothing is the last announcement at row 2"),
        ([20, 5, 20], {2: "low"}, "credits.low is the last announcement at row 3"),
        ([20, 5, 4], {2: "low", 3: "low"}, "credits.low is announced at row 3 of acme"),
        ([20, 15], {2: "low"}, "credits.low is announced at row 2"),
        ([20, 15], {2: "recovered"}, "credits.recovered is announced at row 2"),
        ([20, 5, 6], {2: "low", 3: "recovered"}, "credits.recovered is announced at row 3"),
        ([20, -1, -2], {2: "depleted", 3: "depleted"}, "credits.depleted is announced at row 3"),
        ([20, 5], {2: "depleted"}, "credits.depleted is announced at row 2"),
        ([20, 0, 5, -1], {2: "depleted"}, "credits.depleted is the last announcement at row 4"),
    ],
)
def test_a_message_that_is_missing_or_untrue_is_found(
    balances: list[int], announced: dict[int, str], words: str
) -> None:
    assert any(words in line for line in found(balances, announced))


def test_only_the_end_of_a_posting_of_several_rows_is_announced() -> None:
    assert found([20, 5, 30], {}, moments="abb") == []
    assert found([20, 5, 3], {3: "low"}, moments="abb") == []
    assert found([20, 5, 3], {}, moments="abb") != []


def test_without_a_threshold_only_no_credits_are_announced() -> None:
    assert found([20, 5, 0, 5], {3: "depleted"}, threshold=None) == []
    assert found([20, 5], {2: "low"}, threshold=None) != []
