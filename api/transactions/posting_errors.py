"""What the ledger's refusals are over HTTP: one table."""

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
from shared.ledger.model import (
    InsufficientCredits,
    InvalidPosting,
    PostingStatus,
    RefusedPosting,
    Shortfall,
)
from shared.money import json_number, plain

# How soon a client may ask again while a recharge is under way: most are captured by then.
RECHARGE_SECONDS_MIN = 5

# The ledger's words for what the surfaces call otherwise.
_FIELD_NAMES = {
    "key": "transactionId",
    "description": "note",
    "effective_at": "effectiveOn",
    "expires_at": "expiresAt",
    "expires_in_seconds": "expiresInSeconds",
    "user_id": "userId",
}

_ERRORS: dict[PostingStatus, Callable[[], PrepaidError]] = {
    PostingStatus.CONFLICT: lambda: IdempotencyError("This id came with another request before."),
    PostingStatus.UNKNOWN_ORGANIZATION: lambda: NotFoundError("There is no such organization."),
    PostingStatus.CLOSED: lambda: ConflictError("The organization's account is closed."),
    PostingStatus.UNKNOWN_GRANT: lambda: NotFoundError("There is no such grant."),
    PostingStatus.NOTHING_LEFT: lambda: ConflictError("Nothing is left of this grant."),
    PostingStatus.UNKNOWN_HOLD: lambda: NotFoundError("There is no such hold."),
    PostingStatus.HOLD_CLOSED: lambda: ConflictError(
        "The hold was captured or released, or has expired."
    ),
    PostingStatus.EXCEEDS_HOLD: lambda: ConflictError(
        "The capture is above what is held; allowExceed takes the rest from the balance."
    ),
}


def posting_error(
    refused: RefusedPosting, where: tuple[str | int, ...] = ("body",)
) -> PrepaidError:
    """Return the error that a refused posting or hold is answered with.

    `where` is the place of its fields in the request.
    """
    match refused:
        case InvalidPosting():
            return invalid_field(refused.error, where)
        case InsufficientCredits():
            return _insufficient(refused.shortfall)
    return _ERRORS[refused.status]()


def _insufficient(shortfall: Shortfall) -> InsufficientCreditsError:
    amounts = {
        name: json_number(getattr(shortfall, name))
        for name in ("required", "available", "balance", "held")
    }
    waits = shortfall.recharge_seconds
    return InsufficientCreditsError(
        f"This needs {plain(shortfall.required)} credits; {plain(shortfall.available)} are"
        f" available (balance {plain(shortfall.balance)}, held {plain(shortfall.held)}).",
        retry_after_seconds=None if waits is None else max(waits, RECHARGE_SECONDS_MIN),
        more=amounts if waits is None else {**amounts, "rechargeInProgress": True},
    )


def invalid_field(error: str, where: tuple[str | int, ...] = ("body",)) -> ValidationError:
    """Return the ledger's sentence (`field: what is wrong`) as a ValidationError of that field."""
    name, _, message = error.partition(": ")
    field = _FIELD_NAMES.get(name, name)
    found: FieldError = {"loc": [*where, field], "msg": message, "type": "value_error"}
    return ValidationError(f"{field}: {message}", errors=[found])
