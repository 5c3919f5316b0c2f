"""What Stripe's answer about a PaymentIntent makes of an attempt: every status, code and advice."""

from __future__ import annotations

import pytest

from shared.recharge import intent_states
from shared.recharge.model import AttemptState

STATUSES = [
    "requires_payment_method", "requires_confirmation", "requires_action", "processing",
    "requires_capture", "canceled", "succeeded", "a_status_of_tomorrow",
]  # fmt: skip
CODES = [
    None, "card_declined", "authentication_required", "expired_card", "incorrect_cvc",
    "processing_error", "payment_intent_authentication_failure", "a_code_of_tomorrow",
]  # fmt: skip
DECLINES = [None, "generic_decline", "insufficient_funds", *sorted(intent_states.HARD_DECLINES)]
ADVICE = [None, "try_again_later", *sorted(intent_states.HARD_ADVICE)]


def judge(
    status: str, was: AttemptState, code: str | None, decline: str | None, advice: str | None
) -> intent_states.NotConfirmed | intent_states.NextState:
    return intent_states.next_state(
        status, current=was, error_code=code, decline_code=decline, network_advice=advice
    )


@pytest.mark.parametrize("status", STATUSES)
def test_every_answer_is_judged_and_success_alone_is_a_success(status: str) -> None:
    for was in AttemptState:
        for code in CODES:
            for decline in DECLINES:
                for advice in ADVICE:
                    became = judge(status, was, code, decline, advice)
                    if isinstance(became, intent_states.NotConfirmed):
                        assert status == "requires_confirmation"
                        continue
                    succeeded = became.state is AttemptState.SUCCEEDED
                    assert succeeded == (status == "succeeded")
                    assert became.state not in {AttemptState.ARMED, AttemptState.CHARGING}
                    if became.state is AttemptState.FAILED:
                        assert became.reason


@pytest.mark.parametrize("code", sorted(intent_states.HARD_DECLINES))
def test_a_hard_decline_code_is_hard_wherever_it_stands(code: str) -> None:
    for became in (
        judge("requires_payment_method", AttemptState.CHARGING, "card_declined", code, None),
        judge("requires_payment_method", AttemptState.UNKNOWN, code, None, None),
    ):
        assert became == intent_states.NextState(AttemptState.FAILED, code, hard=True)


def test_a_card_that_its_issuer_stops_is_never_tried_again() -> None:
    """Stripe's codes for what the cardholder or the network has ended, written out."""
    assert {
        "lost_card", "stolen_card", "pickup_card", "fraudulent", "restricted_card",
        "do_not_try_again", "revocation_of_authorization", "revocation_of_all_authorizations",
        "stop_payment_order", "invalid_account", "expired_card", "security_violation",
    } <= intent_states.HARD_DECLINES  # fmt: skip


@pytest.mark.parametrize("advice", sorted(intent_states.HARD_ADVICE))
def test_advice_not_to_try_again_makes_any_decline_hard(advice: str) -> None:
    became = judge(
        "requires_payment_method", AttemptState.CHARGING, "card_declined", "do_not_honor", advice
    )
    assert became == intent_states.NextState(AttemptState.FAILED, "do_not_honor", hard=True)


@pytest.mark.parametrize("status", ["requires_payment_method", "requires_action"])
def test_authentication_is_asked_of_the_customer_and_is_no_success(status: str) -> None:
    became = judge(
        status, AttemptState.CHARGING, "authentication_required", "authentication_required", None
    )
    assert became == intent_states.NextState(
        AttemptState.REQUIRES_ACTION, "authentication_required"
    )
