"""What a call may raise. Every class is a `PrepaidError`; those with an answer have its request id.

Catch the class that you can act on: `Insufficient` (sell credits), `BudgetExceeded` (wait for the
window), `RateLimited` (wait `retry_after`), `NoAnswer` (repeat with `idempotency_key`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prepaid_client.types import AttemptResponse, FieldErrorResponse, NextAction, Number

_NOTHING: Mapping[str, Any] = {}


class PrepaidError(Exception):
    """A call failed."""


class NoAnswer(PrepaidError):
    """No answer arrived before the deadline; a write may have happened.

    Repeat a write with this `idempotency_key` to learn its outcome: it happens once.
    """

    def __init__(self, detail: str, *, idempotency_key: str | None) -> None:
        self.idempotency_key = idempotency_key
        super().__init__(detail)


class AnswerError(PrepaidError):
    """The server refused the request, or failed.

    `status` is the HTTP status, `type` and `detail` are those of the error envelope, `body` is the
    whole envelope, and `retry_after` the seconds to wait, if the server says so.
    """

    def __init__(
        self,
        status: int,
        body: Mapping[str, Any],
        *,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.type = str(body.get("type", ""))
        self.detail = str(body.get("detail", ""))
        self.request_id = request_id
        self.retry_after = retry_after
        super().__init__(self.detail or f"The server answered with status {status}.")


class Invalid(AnswerError):
    """A field of the request is not valid (400, 413, 415, 422). `errors` names each field."""

    @property
    def errors(self) -> Sequence[FieldErrorResponse]:
        """Each rejected field: its location, the reason, and a machine-readable type."""
        found: Sequence[FieldErrorResponse] = self.body.get("errors", ())
        return found


class Unauthenticated(AnswerError):
    """The API key is missing, unknown or revoked (401)."""


class Forbidden(AnswerError):
    """The API key lacks a scope (403)."""


class NotFound(AnswerError):
    """There is no such thing, or it belongs to another organization (404)."""


class Conflict(AnswerError):
    """The thing is not in a state that allows this (409)."""


class AlreadyExists(Conflict):
    """That name is taken (409)."""


class IdempotencyConflict(Conflict):
    """The idempotency key or transaction id was used with another request (409)."""


class Insufficient(AnswerError):
    """The available credits do not cover the request (402).

    `is_local`: the client refused by the last known balance, without a request.
    """

    def __init__(
        self,
        status: int,
        body: Mapping[str, Any],
        *,
        request_id: str | None = None,
        retry_after: float | None = None,
        is_local: bool = False,
    ) -> None:
        self.is_local = is_local
        super().__init__(status, body, request_id=request_id, retry_after=retry_after)

    @property
    def required(self) -> Number | None:
        """The credits that the request needs; None if a price list decides, and was not asked."""
        return self.body.get("required")

    @property
    def available(self) -> Number | None:
        """What a debit may use now: the balance minus held credits, plus the overdraft limit."""
        return self.body.get("available")

    @property
    def balance(self) -> Number | None:
        """The credits that the organization owns."""
        return self.body.get("balance")

    @property
    def held(self) -> Number | None:
        """The credits on hold."""
        return self.body.get("held")

    @property
    def recharge_in_progress(self) -> bool:
        """Whether a recharge is in progress: repeat after `retry_after` seconds."""
        return bool(self.body.get("rechargeInProgress", False))


class BudgetExceeded(AnswerError):
    """A budget of a user, a key, a category or a tag does not cover the request (402).

    `body` has what the budget is about: `subjectKind`, `subject`, `window`.
    """

    @property
    def required(self) -> Number | None:
        """The credits that the request needs."""
        return self.body.get("required")

    @property
    def available(self) -> Number | None:
        """The credits that are left of the budget."""
        return self.body.get("available")

    @property
    def limit(self) -> Number | None:
        """The budget's credits in one window."""
        return self.body.get("limit")

    @property
    def used(self) -> Number | None:
        """The credits that were used in this window."""
        return self.body.get("used")

    @property
    def resets_at(self) -> str | None:
        """When the window ends, in UTC; None for a budget without an end."""
        return self.body.get("resetsAt")


class PaymentRequired(AnswerError):
    """A payment did not go through (402)."""

    @property
    def next_action(self) -> NextAction | None:
        """What the customer can do, and where."""
        return self.body.get("nextAction")

    @property
    def attempt(self) -> AttemptResponse | None:
        """The charge that was attempted, if one was."""
        return self.body.get("attempt")


class RateLimited(AnswerError):
    """The API key, or the organization, has sent too many requests (429)."""


class ServerError(AnswerError):
    """The server failed (5xx); a write may have happened."""


class StripeFailed(ServerError):
    """Stripe refused, or could not be reached (502)."""


_BY_TYPE: Mapping[str, type[AnswerError]] = {
    "insufficient_credits_error": Insufficient,
    "budget_exceeded_error": BudgetExceeded,
    "payment_required_error": PaymentRequired,
    "already_exists_error": AlreadyExists,
    "idempotency_error": IdempotencyConflict,
    "stripe_error": StripeFailed,
}
_BY_STATUS: Mapping[int, type[AnswerError]] = {
    400: Invalid,
    401: Unauthenticated,
    402: PaymentRequired,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: RateLimited,
}
_SERVER_ERRORS = 500


def answer_error(
    status: int, body: Any, *, request_id: str | None, retry_after: float | None
) -> AnswerError:
    """Return the error of an answer, in the most exact class.

    A body that is no envelope, such as a proxy's page, leaves only the status.
    """
    envelope = body if isinstance(body, Mapping) else _NOTHING
    default = ServerError if status >= _SERVER_ERRORS else AnswerError
    by_status = _BY_STATUS.get(status, default)
    kind = _BY_TYPE.get(str(envelope.get("type", "")), by_status)
    return kind(status, envelope, request_id=request_id, retry_after=retry_after)
