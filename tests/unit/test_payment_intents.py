"""Whose fault a refusal of Stripe's is: the customer's, ours, or nobody's."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from shared.payments.payment_intents import (
    ChargeRefused,
    InstallationRefused,
    ObjectMissing,
    OutcomeUnknown,
    Subject,
    TryLater,
    classify,
)
from shared.payments.stripe_failures import CHARGE_CODES

METHOD = "payment_intents.create"


def refusal(
    kind: type[stripe.StripeError],
    status: int,
    code: str | None = None,
    param: str | None = None,
    **headers: str,
) -> stripe.StripeError:
    told: dict[str, Any] = {"http_status": status, "headers": headers}
    if kind is stripe.InvalidRequestError:
        return stripe.InvalidRequestError("no", param, code, **told)  # type: ignore[no-untyped-call]
    return kind("no", code=code, **told)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (refusal(stripe.AuthenticationError, 401), f"401 {METHOD}"),
        (refusal(stripe.PermissionError, 403, "account_invalid"), f"403 {METHOD}"),
        (
            refusal(stripe.InvalidRequestError, 400, "parameter_unknown", "currency"),
            f"400 {METHOD} parameter_unknown",
        ),
        (
            refusal(stripe.InvalidRequestError, 400, "payment_method_unactivated"),
            f"400 {METHOD} payment_method_unactivated",
        ),
        (
            refusal(stripe.InvalidRequestError, 400, "parameter_invalid_empty", "payment_method"),
            f"400 {METHOD} parameter_invalid_empty",
        ),
        (refusal(stripe.InvalidRequestError, 400, "a_code_of_tomorrow"), None),
        (refusal(stripe.InvalidRequestError, 400), f"400 {METHOD}"),
        (refusal(stripe.InvalidRequestError, 404), f"404 {METHOD}"),
        (refusal(stripe.InvalidRequestError, 404, "resource_missing", "transfer_group"), None),
    ],
)
def test_what_is_not_known_to_be_about_the_customer_is_about_us(
    error: stripe.StripeError, cause: str | None
) -> None:
    found = classify(error, METHOD)
    assert isinstance(found, InstallationRefused)
    assert found.cause == (cause or found.cause)


@pytest.mark.parametrize("param", ["customer", "payment_method", "intent"])
def test_a_key_of_the_other_mode_is_our_fault_and_no_object_is_missing(param: str) -> None:
    message = (
        "No such customer: 'cus_1'; a similar object exists in live mode, but a test mode key was"
        " used to make this request."
    )
    error = stripe.InvalidRequestError(  # type: ignore[no-untyped-call]
        message, param, "resource_missing", http_status=400
    )
    found = classify(error, METHOD)
    assert found == InstallationRefused(message, f"400 {METHOD} resource_missing")


@pytest.mark.parametrize("code", sorted(CHARGE_CODES))
def test_a_code_about_this_charge_is_the_customers(code: str) -> None:
    found = classify(refusal(stripe.InvalidRequestError, 400, code), METHOD)
    assert found == ChargeRefused("no", code)


@pytest.mark.parametrize(
    ("param", "code", "subject"),
    [
        ("customer", "resource_missing", Subject.CUSTOMER),
        ("payment_method", "resource_missing", Subject.PAYMENT_METHOD),
        ("payment_method", None, Subject.PAYMENT_METHOD),
        ("intent", "resource_missing", Subject.INTENT),
    ],
)
def test_what_stripe_does_not_know_is_named(param: str, code: str | None, subject: Subject) -> None:
    found = classify(refusal(stripe.InvalidRequestError, 404, code, param), METHOD)
    assert found == ObjectMissing("no", subject)


@pytest.mark.parametrize(
    "error",
    [
        refusal(stripe.APIError, 500),
        refusal(stripe.APIConnectionError, 0),
        refusal(stripe.InvalidRequestError, 409, "idempotency_key_in_use"),
        refusal(stripe.InvalidRequestError, 400, "payment_intent_unexpected_state"),
        refusal(stripe.InvalidRequestError, 429, "lock_timeout"),
    ],
)
def test_what_may_have_happened_is_asked_about(error: stripe.StripeError) -> None:
    assert classify(error, METHOD) == OutcomeUnknown("no")


def test_a_rate_limit_is_nobodys_fault() -> None:
    assert classify(refusal(stripe.RateLimitError, 429), METHOD) == TryLater("no")


@pytest.mark.parametrize("header", ["Idempotent-Replayed", "idempotent-replayed"])
@pytest.mark.parametrize("kind", [stripe.APIError, stripe.AuthenticationError])
def test_a_failure_that_stripe_stores_is_known_by_its_header(
    kind: type[stripe.StripeError], header: str
) -> None:
    found = classify(refusal(kind, 500, **{header: "true"}), METHOD)
    assert isinstance(found, OutcomeUnknown | InstallationRefused)
    assert found.stored
