"""What is refused of a budget and of alerts, and the form in which the rest is stored."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.budgets import rules
from shared.budgets.model import BudgetChange, NewBudget, SubjectKind, WindowKind
from shared.errors import ValidationError

D = Decimal
KEY = UUID("01a2069d-5ade-7000-8000-000000000001")


def budget(**fields: Any) -> NewBudget:
    asked: dict[str, Any] = {
        "subject_kind": SubjectKind.USER,
        "subject": "jo",
        "window_kind": WindowKind.MONTH,
        "limit": D(10),
    }
    return NewBudget(**asked | fields)


def check_refusal(raised: ValidationError, field: str, message: str, *place: int) -> None:
    assert raised.detail == f"{field}: {message}"
    assert raised.errors == [
        {"loc": ["body", field, *place], "msg": message, "type": "value_error"}
    ]


def test_a_budget_is_stored_with_its_thresholds_in_order_each_once() -> None:
    asked = budget(thresholds=(100, 1, 80, 80))
    assert rules.checked(asked) == budget(thresholds=(1, 80, 100))
    assert rules.checked(budget()) == budget()


@pytest.mark.parametrize("limit", ["0", "0.000000001", "1000000000000000000"])
def test_a_limit_may_be_zero_and_as_large_as_an_amount(limit: str) -> None:
    assert rules.checked(budget(limit=D(limit))).limit == D(limit)
    assert rules.checked_change(BudgetChange(limit=D(limit))).limit == D(limit)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("-0.000000001", "must not be negative"),
        ("nan", "must be a finite number"),
        ("0.0000000001", "at most 9 decimals"),
        ("1000000000000000001", "must be at most 1000000000000000000"),
    ],
)
def test_a_limit_that_is_no_amount_is_refused_in_a_new_budget_and_in_a_change(
    limit: str, message: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        rules.checked(budget(limit=D(limit)))
    check_refusal(raised.value, "limit", message)
    with pytest.raises(ValidationError) as raised:
        rules.checked_change(BudgetChange(limit=D(limit)))
    check_refusal(raised.value, "limit", message)


def test_a_change_leaves_what_it_does_not_name() -> None:
    assert rules.checked_change(BudgetChange()) == BudgetChange()
    asked = BudgetChange(limit=D(1), thresholds=(9, 2))
    assert rules.checked_change(asked) == BudgetChange(limit=D(1), thresholds=(2, 9))


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        (tuple(range(1, 12)), "at most 10"),
        ((0,), "each is a percentage from 1 to 100"),
        ((50, 101), "each is a percentage from 1 to 100"),
    ],
)
def test_thresholds_that_are_no_percentages_or_too_many_are_refused(
    thresholds: tuple[int, ...], message: str
) -> None:
    for check in (
        lambda: rules.checked(budget(thresholds=thresholds)),
        lambda: rules.checked_change(BudgetChange(thresholds=thresholds)),
    ):
        with pytest.raises(ValidationError) as raised:
            check()
        check_refusal(raised.value, "thresholds", message)


def test_a_budget_may_have_ten_thresholds_or_none() -> None:
    assert rules.checked_thresholds([*range(91, 101)]) == tuple(range(91, 101))
    assert rules.checked_thresholds([]) == ()


def test_alerts_are_amounts_in_ascending_order_each_once() -> None:
    assert rules.checked_alerts([D(5), D(0), D("5.0"), D("0.5")]) == [D(0), D("0.5"), D(5)]
    assert len(rules.checked_alerts([D(place) for place in range(10)])) == 10


@pytest.mark.parametrize(
    ("thresholds", "message", "place"),
    [
        ([D(1), D(-1)], "must not be negative", [1]),
        ([D("1e-10"), D(1)], "at most 9 decimals", [0]),
        ([D("-inf")], "must be a finite number", [0]),
        ([D(place) for place in range(11)], "at most 10", []),
    ],
)
def test_an_alert_that_is_refused_is_named_by_its_place(
    thresholds: list[Decimal], message: str, place: list[int]
) -> None:
    with pytest.raises(ValidationError) as raised:
        rules.checked_alerts(thresholds)
    check_refusal(raised.value, "thresholds", message, *place)


@pytest.mark.parametrize(
    ("kind", "subject", "stored"),
    [
        *((kind, "*", "*") for kind in SubjectKind),
        (SubjectKind.USER, "u" * 255, "u" * 255),
        (SubjectKind.CATEGORY, "c" * 100, "c" * 100),
        (SubjectKind.TAG, "project:a/b", "project:a/b"),
        (SubjectKind.KEY, KEY.hex.upper(), str(KEY)),
    ],
)
def test_a_subject_is_stored_in_one_form(kind: SubjectKind, subject: str, stored: str) -> None:
    assert rules.checked(budget(subject_kind=kind, subject=subject)).subject == stored


@pytest.mark.parametrize(
    ("kind", "subject", "message"),
    [
        (SubjectKind.USER, "", "must not be empty; * stands for each user"),
        (SubjectKind.TAG, "", "must not be empty; * stands for each tag"),
        (SubjectKind.KEY, "jo", "must be the id of an API key"),
        (SubjectKind.USER, "u" * 256, "at most 255 characters"),
        (SubjectKind.USER, "a\0", "must not hold NUL or half of a surrogate pair"),
        (SubjectKind.CATEGORY, "c" * 101, "at most 100 characters"),
        (SubjectKind.TAG, "a b", "1 to 64 letters, digits, or any of _.:/@- each"),
    ],
)
def test_a_subject_that_no_usage_can_have_is_refused(
    kind: SubjectKind, subject: str, message: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        rules.checked(budget(subject_kind=kind, subject=subject))
    check_refusal(raised.value, "subject", message)
