"""The next state of an attempt, by the status and error of its PaymentIntent. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from shared.recharge.model import AUTHENTICATION_REQUIRED, AttemptState

# The same charge cannot succeed, or the cardholder or the network forbids a retry.
# Source: https://docs.stripe.com/declines/codes
HARD_DECLINES = frozenset({
    "lost_card", "stolen_card", "pickup_card", "fraudulent", "merchant_blacklist",
    "restricted_card", "do_not_try_again", "revocation_of_authorization",
    "revocation_of_all_authorizations", "stop_payment_order", "invalid_account", "expired_card",
    "card_not_supported", "currency_not_supported", "transaction_not_allowed",
    "security_violation", "no_payment_method",
})  # fmt: skip
HARD_ADVICE = frozenset({"do_not_try_again", "confirm_card_data"})


@dataclass(frozen=True, slots=True)
class NotConfirmed:
    """The PaymentIntent was never confirmed: nothing was charged."""


@dataclass(frozen=True, slots=True)
class NextState:
    """The next state of an attempt. `hard`: a decline that must not be retried."""

    state: AttemptState
    reason: str | None = None
    hard: bool = False


_BY_STATUS: dict[str, NotConfirmed | NextState] = {
    "succeeded": NextState(AttemptState.SUCCEEDED),
    "processing": NextState(AttemptState.PROCESSING),
    "canceled": NextState(AttemptState.CANCELED, "canceled at Stripe"),
    "requires_action": NextState(AttemptState.REQUIRES_ACTION, AUTHENTICATION_REQUIRED),
    "requires_confirmation": NotConfirmed(),
}


def next_state(
    status: str,
    *,
    current: AttemptState,
    error_code: str | None,
    decline_code: str | None,
    network_advice: str | None,
) -> NotConfirmed | NextState:
    """Return the next state of an attempt in the state `current`, by its PaymentIntent.

    Source: https://docs.stripe.com/payments/paymentintents/lifecycle, and for the errors
    https://docs.stripe.com/error-codes
    """
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status == "requires_payment_method" and error_code is None:
        # Never charged: a declined PaymentIntent would still have its error.
        return declined("no_payment_method", network_advice)
    if error_code == AUTHENTICATION_REQUIRED or current is AttemptState.REQUIRES_ACTION:
        # The customer may try again on the page, until its link expires.
        return NextState(AttemptState.REQUIRES_ACTION, AUTHENTICATION_REQUIRED)
    return declined(decline_code or error_code or status, network_advice)


def declined(reason: str, network_advice: str | None) -> NextState:
    """Return the next state after a decline, reported now or stored earlier."""
    hard = reason in HARD_DECLINES or network_advice in HARD_ADVICE
    return NextState(AttemptState.FAILED, reason, hard=hard)
