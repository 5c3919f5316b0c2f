"""Which scopes a posting needs, by what it asks for."""

from __future__ import annotations

from msgspec.structs import replace

from api.framework.operation import Call
from api.transactions import posting_errors
from shared.access.model import Scope
from shared.errors import PermissionDeniedError, PrepaidError
from shared.ledger import rules
from shared.ledger.model import Posting, PostingStatus, RefusedPosting, TransactionType


def check_scope(call: Call, posting: Posting) -> None:
    """Raise PermissionDeniedError where the key may not post this at all."""
    if posting.type is TransactionType.USAGE:
        call.require(Scope.USAGE, "Usage")
    else:
        call.require(Scope.GRANTS, f"A transaction of type {posting.type}")


def limit_overdraft(call: Call, posting: Posting) -> Posting:
    """Return the posting within the overdraft limit, where the key may not go beyond it.

    Its digest stays that of the request, so that the same request with another key is a replay.
    """
    if not _is_limited(call, posting):
        return posting
    return replace(posting, digest=rules.digest(posting), may_overdraw=False)


def posting_error(
    call: Call,
    posting: Posting,
    result: RefusedPosting,
    where: tuple[str | int, ...] = ("body",),
) -> PrepaidError:
    """Return the error that a refused posting is answered with."""
    if result.status is PostingStatus.INSUFFICIENT and _is_limited(call, posting):
        return PermissionDeniedError(
            "The balance does not cover this: to overdraw beyond the limit needs a key with the"
            f" scope {Scope.GRANTS}."
        )
    return posting_errors.posting_error(result, where)


def _is_limited(call: Call, posting: Posting) -> bool:
    return posting.may_overdraw and not call.caller.may(Scope.GRANTS)
