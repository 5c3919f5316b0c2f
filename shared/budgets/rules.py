"""Validation of budgets and of the thresholds of alerts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from msgspec.structs import replace

from shared.budgets.model import EACH, BudgetChange, NewBudget, SubjectKind
from shared.errors import FieldError, ValidationError
from shared.ids import parse_id
from shared.ledger import rules as ledger
from shared.ledger.tags import tags_refusal

THRESHOLDS_MAX = 10
PERCENT_MAX = 100
# A subject by name is read by its index, however many there are.
BUDGETS_MAX = 10_000

_LENGTHS = {
    SubjectKind.USER: ledger.KEY_LENGTH_MAX,
    SubjectKind.CATEGORY: ledger.CATEGORY_LENGTH_MAX,
}


def checked(budget: NewBudget) -> NewBudget:
    """Return a budget in its stored form; raise ValidationError with the field and the reason."""
    check_limit(budget.limit)
    thresholds = checked_thresholds(budget.thresholds)
    return replace(
        budget,
        subject=_checked_subject(budget.subject_kind, budget.subject),
        thresholds=thresholds,
    )


def checked_change(change: BudgetChange) -> BudgetChange:
    """Return a change in its stored form; raise ValidationError with the field and the reason."""
    if change.limit is not None:
        check_limit(change.limit)
    if change.thresholds is None:
        return change
    return replace(change, thresholds=checked_thresholds(change.thresholds))


def check_limit(limit: Decimal) -> None:
    """Raise ValidationError for a limit that is no amount of credits. Zero allows nothing."""
    if error := ledger.decimal_refusal("limit", limit):
        raise _invalid("limit", error.partition(": ")[2])
    if limit < 0:
        raise _invalid("limit", "must not be negative")


def checked_thresholds(thresholds: Sequence[int]) -> tuple[int, ...]:
    """Return percentages of a limit in ascending order, each once."""
    if len(thresholds) > THRESHOLDS_MAX:
        raise _invalid("thresholds", f"at most {THRESHOLDS_MAX}")
    if any(not 1 <= percent <= PERCENT_MAX for percent in thresholds):
        raise _invalid("thresholds", f"each is a percentage from 1 to {PERCENT_MAX}")
    return tuple(sorted(set(thresholds)))


def checked_alerts(thresholds: Sequence[Decimal]) -> list[Decimal]:
    """Return the thresholds of a balance in ascending order, each once."""
    if len(thresholds) > THRESHOLDS_MAX:
        raise _invalid("thresholds", f"at most {THRESHOLDS_MAX}")
    for place, threshold in enumerate(thresholds):
        error = ledger.decimal_refusal("threshold", threshold)
        if error is None and threshold < 0:
            error = "threshold: must not be negative"
        if error:
            raise _invalid("thresholds", error.partition(": ")[2], place)
    return sorted(set(thresholds))


def _checked_subject(kind: SubjectKind, subject: str) -> str:
    if subject == EACH:
        return subject
    if not subject:
        raise _invalid("subject", f"must not be empty; {EACH} stands for each {kind}")
    if kind is SubjectKind.KEY:
        key_id = parse_id(subject)
        if key_id is None:
            raise _invalid("subject", "must be the id of an API key")
        return str(key_id)
    if kind is SubjectKind.TAG:
        error = tags_refusal([subject])
    else:
        error = ledger.text_refusal("subject", subject, _LENGTHS[kind])
    if error:
        raise _invalid("subject", error.partition(": ")[2])
    return subject


def _invalid(field: str, message: str, place: int | None = None) -> ValidationError:
    location: list[str | int] = ["body", field] if place is None else ["body", field, place]
    error: FieldError = {"loc": location, "msg": message, "type": "value_error"}
    return ValidationError(f"{field}: {message}", errors=[error])
