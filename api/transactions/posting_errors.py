"""The HTTP errors of refused postings and holds: one table."""

from __future__ import annotations

from collections.abc import Callable

from shared.errors import (
    ConflictError,
    FieldError,
    IdempotencyError,
    InsufficientCreditsError,
    NotFoundError,
    PrepaidError,
    ValidationError,
)
from shared.ledger.model import HoldResult, PostingResult, PostingStatus, Shortfall
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
    PostingStatus.CLOSED: lambda: ConflictError("The organization's account is closed."),
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
    status: PostingStatus,
    *,
    error: str | None = None,
    result: PostingResult | HoldResult | None = None,
    where: tuple[str | int, ...] = ("body",),
) -> PrepaidError | None:
    """Return the error of a refused posting or hold, None if it was posted.

    `where` is the location of its fields in the request.
    """
    if status in (PostingStatus.POSTED, PostingStatus.REPLAYED):
        return None
    if status is PostingStatus.INVALID:
        return invalid_field(error or "the request is not valid", where)
    if status is PostingStatus.INSUFFICIENT:
        return _insufficient(result.shortfall if result is not None else None)
    return _ERRORS[status]()


def shortfall_text(shortfall: Shortfall | None) -> str:
    """Return a sentence with the required and the available credits."""
    if shortfall is None:
        return "The available credits do not cover this."
    return (
        f"This needs {plain(shortfall.required)} credits; {plain(shortfall.available)} are"
        f" available (balance {plain(shortfall.balance)}, held {plain(shortfall.held)})."
    )


def _insufficient(shortfall: Shortfall | None) -> InsufficientCreditsError:
    if shortfall is None:
        return InsufficientCreditsError()
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


def invalid_field(error: str, where: tuple[str | int, ...] = ("body",)) -> ValidationError:
    """Return the ledger's message (`field: reason`) as a ValidationError of that field."""
    name, _, message = error.partition(": ")
    field = _FIELD_NAMES.get(name, name)
    found: FieldError = {"loc": [*where, field], "msg": message, "type": "value_error"}
    return ValidationError(f"{field}: {message}", errors=[found])
