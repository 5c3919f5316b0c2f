"""The HTTP errors of refused postings and holds: one table."""

from __future__ import annotations

from collections.abc import Callable

from shared.counts import counted, is_or_are
from shared.errors import (
    BudgetExceededError,
    ConflictError,
    FieldError,
    IdempotencyError,
    InsufficientCreditsError,
    NotFoundError,
    OrganizationClosedError,
    PrepaidError,
    ValidationError,
)
from shared.ledger.model import (
    BudgetExceeded,
    BudgetShortfall,
    InsufficientCredits,
    InvalidPosting,
    PostingStatus,
    RefusedPosting,
    Shortfall,
)
from shared.money import json_number, plain

# The minimum of Retry-After while a recharge is in progress: most are captured by then.
RECHARGE_SECONDS_MIN = 5

# The ledger's fields that the API names otherwise.
_FIELD_NAMES = {
    "key": "transactionId",
    "description": "note",
    "effective_at": "effectiveOn",
    "expires_at": "expiresAt",
    "expires_in_seconds": "expiresInSeconds",
    "user_id": "userId",
}

_ERRORS: dict[PostingStatus, Callable[[], PrepaidError]] = {
    PostingStatus.CONFLICT: lambda: IdempotencyError(
        "This id was used with another request; send a new one."
    ),
    PostingStatus.UNKNOWN_ORGANIZATION: lambda: NotFoundError("There is no such organization."),
    PostingStatus.CLOSED: OrganizationClosedError,
    PostingStatus.UNKNOWN_GRANT: lambda: NotFoundError("There is no such grant."),
    PostingStatus.NOTHING_LEFT: lambda: ConflictError("This grant has no remaining credits."),
    PostingStatus.UNKNOWN_HOLD: lambda: NotFoundError("There is no such hold."),
    PostingStatus.HOLD_CLOSED: lambda: ConflictError(
        "The hold was captured or released, or has expired."
    ),
    PostingStatus.EXCEEDS_HOLD: lambda: ConflictError(
        "The capture exceeds the hold. Send allowExceed to take the rest from the balance."
    ),
}


def posting_error(
    refused: RefusedPosting, where: tuple[str | int, ...] = ("body",)
) -> PrepaidError:
    """Return the error of a refused posting or hold.

    `where` is the location of its fields in the request.
    """
    match refused:
        case InvalidPosting():
            return invalid_field(refused.error, where)
        case InsufficientCredits():
            return _insufficient(refused.shortfall)
        case BudgetExceeded():
            return _budget_exceeded(refused.shortfall)
    return _ERRORS[refused.status]()


def shortfall_text(shortfall: Shortfall) -> str:
    """Return a sentence with the required and the available credits."""
    return (
        f"This needs {counted(shortfall.required, 'credit')}; {plain(shortfall.available)}"
        f" {is_or_are(shortfall.available)} available (balance"
        f" {plain(shortfall.balance)}, held {plain(shortfall.held)})."
    )


def _insufficient(shortfall: Shortfall) -> InsufficientCreditsError:
    amounts = {
        name: json_number(getattr(shortfall, name))
        for name in ("required", "available", "balance", "held")
    }
    seconds = shortfall.recharge_seconds
    return InsufficientCreditsError(
        shortfall_text(shortfall),
        retry_after_seconds=None if seconds is None else max(seconds, RECHARGE_SECONDS_MIN),
        more=amounts if seconds is None else {**amounts, "rechargeInProgress": True},
    )


def _budget_exceeded(shortfall: BudgetShortfall) -> BudgetExceededError:
    amounts = {
        name: json_number(getattr(shortfall, name))
        for name in ("required", "available", "limit", "used", "held")
    }
    of = f"{shortfall.subject_kind} {shortfall.subject}"
    return BudgetExceededError(
        f"This needs {counted(shortfall.required, 'credit')}; {plain(shortfall.available)}"
        f" {is_or_are(shortfall.available)} left in the budget of the {of}"
        f" ({shortfall.window_kind}: limit"
        f" {plain(shortfall.limit)}, used {plain(shortfall.used)}, held {plain(shortfall.held)}).",
        more={
            **amounts,
            "budgetId": shortfall.budget_id,
            "subjectKind": shortfall.subject_kind,
            "subject": shortfall.subject,
            "window": shortfall.window_kind,
            "resetsAt": shortfall.resets_at,
        },
    )


def invalid_field(error: str, where: tuple[str | int, ...] = ("body",)) -> ValidationError:
    """Return the ledger's message (`field: reason`) as a ValidationError of that field."""
    name, _, message = error.partition(": ")
    field = _FIELD_NAMES.get(name, name)
    field_error: FieldError = {"loc": [*where, field], "msg": message, "type": "value_error"}
    return ValidationError(f"{field}: {message}", errors=[field_error])
