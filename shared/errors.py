"""Every error that Prepaid returns or records, as one hierarchy.

A class has the HTTP status and the `type` of the error envelope; its docstring is the default
message. Raise the most specific class; the HTTP edge translates it.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar, TypedDict


class FieldError(TypedDict):
    """One rejected field: its location in the request, and why it was rejected."""

    loc: list[str | int]
    msg: str
    type: str


class PrepaidError(Exception):
    """Something went wrong inside Prepaid."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    type: ClassVar[str] = "internal_error"

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: list[FieldError] | None = None,
        retry_after_seconds: int | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        self.detail = detail or (type(self).__doc__ or "").split("\n", 1)[0]
        self.errors = errors
        self.retry_after_seconds = retry_after_seconds
        self.more = more or {}
        super().__init__(self.detail)


class InvalidRequestError(PrepaidError):
    """The request could not be understood."""

    status = HTTPStatus.BAD_REQUEST
    type = "invalid_request_error"


class AuthenticationError(PrepaidError):
    """Authentication failed."""

    status = HTTPStatus.UNAUTHORIZED
    type = "authentication_error"


class PermissionDeniedError(PrepaidError):
    """This key may not do that."""

    status = HTTPStatus.FORBIDDEN
    type = "permission_error"


class NotFoundError(PrepaidError):
    """There is no such thing, or this key may not know of it."""

    status = HTTPStatus.NOT_FOUND
    type = "not_found_error"


class MethodNotAllowedError(InvalidRequestError):
    """This path does not take that method."""

    status = HTTPStatus.METHOD_NOT_ALLOWED


class RequestTimeoutError(InvalidRequestError):
    """The request's body did not arrive in time."""

    status = HTTPStatus.REQUEST_TIMEOUT


class PayloadTooLargeError(InvalidRequestError):
    """The request's body is larger than this path takes."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class UnsupportedMediaTypeError(InvalidRequestError):
    """The request's body is not JSON as this path takes it."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class InsufficientCreditsError(PrepaidError):
    """The credits that are available do not cover this."""

    status = HTTPStatus.PAYMENT_REQUIRED
    type = "insufficient_credits_error"


class BudgetExceededError(PrepaidError):
    """A budget of the organization refuses this."""

    status = HTTPStatus.PAYMENT_REQUIRED
    type = "budget_exceeded_error"


class PaymentRequiredError(PrepaidError):
    """The payment did not go through; `nextAction` says what the customer can do."""

    status = HTTPStatus.PAYMENT_REQUIRED
    type = "payment_required_error"


class NoPaymentMethodError(PaymentRequiredError):
    """There is no payment method on file that could be charged."""


class MethodDeclinedError(PaymentRequiredError):
    """The payment method on file was declined too often of late; use another."""


class AlreadyExistsError(PrepaidError):
    """That name is taken."""

    status = HTTPStatus.CONFLICT
    type = "already_exists_error"


class ConflictError(PrepaidError):
    """The thing is not in a state that allows this."""

    status = HTTPStatus.CONFLICT
    type = "conflict_error"


class RunLostError(ConflictError):
    """This process must not go on with its run of reconciliation: another one may."""


class OrganizationClosedError(ConflictError):
    """The organization is closed: nothing can be bought, used or given; it can still be read."""


class MethodUndescribedError(ConflictError):
    """Stripe has not described the payment method on file yet."""


class IdempotencyError(PrepaidError):
    """The same idempotency key came with another request before."""

    status = HTTPStatus.CONFLICT
    type = "idempotency_error"


class ValidationError(PrepaidError):
    """A field of the request is not valid."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    type = "validation_error"


class UpgradeRequiredError(PrepaidError):
    """The request names a version of the API that is not served here."""

    status = HTTPStatus.UPGRADE_REQUIRED
    type = "upgrade_required_error"


class RateLimitError(PrepaidError):
    """This key has sent too many requests; come back later."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "rate_limit_error"


class DeadlineError(PrepaidError):
    """The answer took too long. A write may have happened: ask again with the same key."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    type = "timeout_error"


class UnavailableError(PrepaidError):
    """A server that Prepaid needs is away; try again."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class NotReadyError(UnavailableError):
    """This process is not ready. The detail is for operators, and readiness reports it."""


class StripeFailedError(PrepaidError):
    """Stripe refused, or could not be reached."""

    status = HTTPStatus.BAD_GATEWAY
    type = "stripe_error"


class NothingChargedError(StripeFailedError):
    """Stripe refused the charge, which is canceled for good; its Idempotency-Key may try again."""


class StripeThrottledError(StripeFailedError):
    """Stripe rate-limited the request and did nothing."""


class StripeRefusedError(StripeFailedError):
    """Stripe refused the request, and did nothing."""


class StripeForbiddenError(StripeRefusedError):
    """The Stripe key lacks a permission."""


class StripeMissingError(StripeRefusedError):
    """Stripe knows no such thing."""


class LeaseLostError(PrepaidError):
    """The lease has passed to another worker; nothing was committed."""


class ConfigError(PrepaidError):
    """A setting is wrong or missing."""

    def __init__(self, variable: str, fix: str) -> None:
        self.variable = variable
        super().__init__(f"{variable}: {fix}")


class EventError(PrepaidError):
    """A Stripe event cannot be applied as it is.

    Deterministic: applying the event again gives the same answer until a person acts (creates the
    organization, say), so such an event goes to the dead letters at once instead of being retried.
    """


class MalformedEventError(EventError):
    """A field that Prepaid needs is missing from the Stripe object, or has another shape."""


class UnknownOrganizationError(EventError):
    """The event names no organization that exists here."""


class LeasesLostError(EventError):
    """Workers died or froze while applying the event."""


class PayloadDeletedError(EventError):
    """The event's payload was deleted after its retention."""


class TwoOrganizationsError(EventError):
    """The payment's metadata names two organizations."""


class UnclaimedError(EventError):
    """The event's organization is not known yet. `waits_for`: the Stripe id that identifies it."""

    def __init__(self, detail: str, *, waits_for: str) -> None:
        self.waits_for = waits_for
        super().__init__(detail)


class CurrencyMismatchError(EventError):
    """The payment is in another currency than the organization's."""


class InvalidAmountError(EventError):
    """The payment's amount cannot be credited."""


class PaymentMismatchError(EventError):
    """Two events disagree about the same payment."""
