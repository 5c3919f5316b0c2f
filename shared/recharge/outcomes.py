"""The next step of an attempt after a decision or an answer from Stripe: pure functions.

A step is a `Transition`, or a PaymentIntent to cancel before one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.payments.payment_intents import (
    ChargeRefused,
    GatewayAnswer,
    InstallationRefused,
    Intent,
    ObjectMissing,
    OutcomeUnknown,
    Subject,
    TryLater,
)
from shared.recharge import intent_states, rules, states
from shared.recharge.intent_states import NextState, NotConfirmed
from shared.recharge.model import (
    AUTHENTICATION_REQUIRED,
    NOT_CREDITED,
    REFUSED,
    STRIPE_ERROR,
    Attempt,
    AttemptState,
    ChargingAttempt,
    SuspensionReason,
    Trigger,
)
from shared.recharge.transitions import (
    Alert,
    CancelFirst,
    Cancellation,
    Capture,
    CustomerAction,
    Decline,
    Effect,
    ExpiredLink,
    Failure,
    Link,
    MissingObject,
    Step,
    Transition,
    Uncredited,
)

CANCELED = "canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The circumstances of one look at an attempt. Time, waits and links are passed in.

    `unwanted` is the reason why its PaymentIntent must not be confirmed, if any. `is_first`: no
    earlier request to Stripe was made for the attempt, so that it cannot have been charged.
    """

    now: datetime
    retry_wait: timedelta
    link: Link
    unwanted: str | None
    is_first: bool


def after_answer(attempt: ChargingAttempt, answer: GatewayAnswer, look: Look) -> Step:
    """Return the next step after an answer about the attempt's PaymentIntent."""
    match answer:
        case Intent():
            return _after_intent(attempt, answer, look)
        case OutcomeUnknown(detail, stored):
            return _look_again(attempt, detail, look, new_create_key=stored)
        case TryLater(detail):
            return postponed(attempt, detail, look.retry_wait)
        case InstallationRefused():
            return _installation_refused(attempt, answer, look)
        case ObjectMissing(detail, Subject.INTENT):
            return given_up(detail, due_again=True)
        case _:
            return _charge_refused(attempt, answer)


def after_cancellation(
    attempt: ChargingAttempt, answer: GatewayAnswer, step: CancelFirst, look: Look
) -> Transition:
    """Return the next step after Stripe's answer to a cancellation."""
    match answer:
        case Intent(status="canceled"):
            return step.then
        case _ if step.otherwise is not None:
            return step.otherwise
        case ObjectMissing(subject=Subject.INTENT):
            return step.then
        case InstallationRefused():
            return _blocked(attempt, answer, look)
        case Intent(status=status):
            detail = f"cannot be canceled: {status}"
        case _:
            detail = f"cannot be canceled: {answer.detail}"
    return postponed(attempt, detail, look.retry_wait, state=AttemptState.UNKNOWN)


def postponed(
    attempt: Attempt,
    detail: str | None,
    wait: timedelta,
    *,
    state: AttemptState | None = None,
    new_create_key: bool = False,
) -> Transition:
    """Return the attempt for another look after `wait`, in its own state or in `state`."""
    state = state or attempt.state
    if not isinstance(attempt, ChargingAttempt):
        return Transition(state=state, detail=detail, wait=wait)
    return Transition(
        state=state,
        reason=attempt.reason,
        detail=detail,
        decline_code=attempt.decline_code,
        network_advice=attempt.network_advice,
        blocked_by=None if state is AttemptState.PROCESSING else attempt.blocked_by,
        wait=wait,
        new_create_key=new_create_key,
    )


def not_charged(attempt: Attempt, decision: rules.Wait | rules.Stop, now: datetime) -> Transition:
    """Return the transition after a decision not to charge; rearm after too long a wait."""
    if isinstance(decision, rules.Stop):
        effect = Cancellation(
            due_again=decision.due_again, suspension=decision.suspension, until=decision.until
        )
        return canceled(decision.detail, effect)
    latest = states.deadline(attempt)
    if latest <= now:
        return canceled("it waited for too long", Cancellation(due_again=True))
    return postponed(attempt, None, min(decision.until, latest) - now)


def canceled(detail: str, effect: Effect, *, reason: str = CANCELED) -> Transition:
    """Return the cancellation of an attempt that can never charge."""
    return Transition(state=AttemptState.CANCELED, reason=reason, detail=detail, effect=effect)


def not_credited(intent: Intent, detail: str) -> Transition:
    """Return the end of an attempt that was captured, and whose credits the ledger refuses."""
    return Transition(
        state=AttemptState.FAILED, reason=NOT_CREDITED, detail=detail, effect=Uncredited(intent)
    )


def given_up(detail: str, *, due_again: bool = False) -> Transition:
    """Return a cancellation after which the rule arms again if it still applies."""
    return canceled(detail, Cancellation(due_again=due_again, rearm=True))


def _after_intent(attempt: ChargingAttempt, intent: Intent, look: Look) -> Step:
    following = intent_states.next_state(
        intent.status,
        current=attempt.state,
        error_code=intent.error_code,
        decline_code=intent.decline_code,
        network_advice=intent.network_advice,
    )
    if isinstance(following, NotConfirmed):
        return postponed(attempt, "not confirmed yet", look.retry_wait, state=AttemptState.UNKNOWN)
    match following.state:
        case AttemptState.SUCCEEDED:
            return Transition(state=AttemptState.SUCCEEDED, effect=Capture(intent))
        case AttemptState.PROCESSING:
            return _processing(attempt, intent, look)
        case AttemptState.REQUIRES_ACTION:
            return _requires_action(attempt, intent, look)
        case AttemptState.CANCELED:
            return _canceled_at_stripe(attempt, intent, following, look)
        case _:
            then = _declined(
                following, intent.error_message, intent.decline_code, intent.network_advice
            )
            return CancelFirst(intent.id, then)


def _processing(attempt: ChargingAttempt, intent: Intent, look: Look) -> Step:
    """Check again in an hour; give up if the bank has not decided for a month."""
    attempt = replace(attempt, state=AttemptState.PROCESSING)
    latest = states.deadline(attempt)
    if look.now < latest:
        return postponed(attempt, None, min(rules.PROCESSING_LOOK, latest - look.now))
    detail = "its bank did not decide in time"
    written_off = Transition(
        state=AttemptState.FAILED,
        reason="processing_expired",
        detail=detail,
        effect=Failure(SuspensionReason.CHARGE_REFUSED),
    )
    return CancelFirst(intent.id, given_up(detail), written_off)


def _requires_action(attempt: ChargingAttempt, intent: Intent, look: Look) -> Step:
    """Request authentication once; give up when the link expires."""
    if attempt.link_has_expired(look.now):
        return CancelFirst(intent.id, _expired())
    asked_before = attempt.link_expires_at is not None
    return Transition(
        state=AttemptState.REQUIRES_ACTION,
        reason=AUTHENTICATION_REQUIRED,
        detail=intent.error_message,
        decline_code=attempt.decline_code,
        network_advice=attempt.network_advice,
        link=look.link,
        effect=None if asked_before else CustomerAction(intent),
    )


def _expired() -> Transition:
    return canceled("the customer did not authenticate it in time", ExpiredLink())


def _canceled_at_stripe(
    attempt: ChargingAttempt, intent: Intent, following: NextState, look: Look
) -> Transition:
    """Continue after a cancellation by Prepaid whose response was lost."""
    if attempt.decline_reason is not None:
        stored = intent_states.declined(attempt.decline_reason, attempt.network_advice)
        return _declined(stored, intent.error_message, attempt.decline_code, attempt.network_advice)
    if attempt.link_has_expired(look.now):
        return _expired()
    return given_up(following.reason or CANCELED, due_again=look.unwanted is not None)


def _declined(
    following: NextState, detail: str | None, decline_code: str | None, network_advice: str | None
) -> Transition:
    return Transition(
        state=AttemptState.FAILED,
        reason=following.reason,
        detail=detail,
        decline_code=decline_code,
        network_advice=network_advice,
        effect=Decline(hard=following.hard),
    )


def _look_again(
    attempt: ChargingAttempt, detail: str, look: Look, *, new_create_key: bool
) -> Transition:
    """Return the attempt as `unknown`; a customer's authentication page stays open."""
    waits = attempt.state is AttemptState.REQUIRES_ACTION
    return postponed(
        attempt,
        detail,
        look.retry_wait,
        state=None if waits else AttemptState.UNKNOWN,
        new_create_key=new_create_key,
    )


def _charge_refused(attempt: ChargingAttempt, answer: ChargeRefused | ObjectMissing) -> Step:
    """End an attempt that Stripe will never charge for this customer."""
    effect: Effect
    if isinstance(answer, ObjectMissing):
        reason, effect = "resource_missing", MissingObject(answer.subject)
    else:
        reason, effect = answer.code or REFUSED, Failure(SuspensionReason.CHARGE_REFUSED)
    failed = Transition(
        state=AttemptState.FAILED, reason=reason, detail=answer.detail, effect=effect
    )
    intent_id = attempt.payment_intent_id
    return failed if intent_id is None else CancelFirst(intent_id, failed)


def _installation_refused(
    attempt: ChargingAttempt, answer: InstallationRefused, look: Look
) -> Step:
    """Wait until an operator has corrected the cause; cancel a top-up, whose customer is present.

    The top-up is not canceled if an earlier request may have charged it. A PaymentIntent that was
    not confirmed never charges, so that its cancellation may fail.
    """
    if attempt.trigger is not Trigger.TOP_UP or not look.is_first:
        return _blocked(attempt, answer, look)
    effect = Cancellation(rearm=True, refused_by=answer.cause)
    ended = canceled(answer.detail, effect, reason=STRIPE_ERROR)
    intent_id = attempt.payment_intent_id
    return ended if intent_id is None else CancelFirst(intent_id, ended, otherwise=ended)


def _blocked(attempt: ChargingAttempt, answer: InstallationRefused, look: Look) -> Transition:
    waiting = postponed(attempt, answer.detail, look.retry_wait, new_create_key=answer.stored)
    return replace(waiting, blocked_by=answer.cause, effect=Alert(answer.cause, answer.detail))
