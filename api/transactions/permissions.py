"""The scopes that a posting requires, by its type and its overdraft."""

from __future__ import annotations

from msgspec.structs import replace

from api.framework.operation import Call
from shared.access.model import Scope
from shared.errors import PermissionDeniedError, PrepaidError
from shared.ledger import posting_errors, rules
from shared.ledger.model import (
    InsufficientCredits,
    Posting,
    RefusedPosting,
    TransactionType,
)


def check_scope(call: Call, posting: Posting) -> None:
    """Raise PermissionDeniedError if the key may not post this type."""
    if posting.type is TransactionType.USAGE:
        call.require(Scope.USAGE, "Usage")
    else:
        call.require(Scope.GRANTS, f"A transaction of type {posting.type}")


def limit_overdraft(call: Call, posting: Posting) -> Posting:
    """Return the posting, limited to the overdraft limit unless the key may exceed it.

    Its digest stays that of the request, so that the same request with another key is a replay.
    """
    if not _is_limited(call, posting):
        return posting
    digest = posting.digest or rules.digest(posting)
    if posting.type is TransactionType.HOLD_CAPTURE:
        return replace(posting, digest=digest, past_limit=False)
    return replace(posting, digest=digest, may_overdraw=False)


def posting_error(
    call: Call,
    posting: Posting,
    result: RefusedPosting,
    where: tuple[str | int, ...] = ("body",),
) -> PrepaidError:
    """Return the error of a refused posting."""
    if isinstance(result, InsufficientCredits) and _is_limited(call, posting):
        shortfall = posting_errors.shortfall_text(result.shortfall)
        return PermissionDeniedError(
            f"{shortfall} To overdraw beyond the limit, use a key with the scope {Scope.GRANTS}."
        )
    return posting_errors.posting_error(result, where)


def may_choose_prices(call: Call) -> bool:
    """Return whether the key may have usage priced as of any moment in the past."""
    return call.caller.may(Scope.GRANTS)


def _is_limited(call: Call, posting: Posting) -> bool:
    is_capture = posting.type is TransactionType.HOLD_CAPTURE
    overdraws = posting.past_limit if is_capture else posting.may_overdraw
    return overdraws and not call.caller.may(Scope.GRANTS)
