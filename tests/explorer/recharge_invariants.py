"""What must hold in every state of auto-recharge, and at each end."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

from shared.ledger import keys
from shared.recharge.model import AttemptState, RechargeState
from tests.explorer import stripe_model
from tests.explorer.recharge_tables import AMOUNT, FIRST_CARD, Attempt
from tests.explorer.reversal_events import REFUNDED_CREDITS
from tests.explorer.search import ALL_END
from tests.explorer.stepping import Position, Row

if TYPE_CHECKING:
    from tests.explorer.recharge_state import State
    from tests.explorer.stripe_model import PaymentIntent

CAPTURED_ONCE = "an attempt is captured at most once"
CREDITED_ONCE = "a payment is credited at most once, and only after it was captured"
ONE_LIVE = "an organization has at most one live attempt"
SUCCEEDED = "a succeeded attempt is captured and credited, in one commit"
NEVER_CHARGES = "an attempt that ended otherwise can never charge"
ALL_CREDITED = "captured money is credited when all work is done, with or without its webhook"
ONE_INTENT = "an attempt has one PaymentIntent, while Stripe keeps its idempotency keys"
PAUSED = "a rule that waits for its customer has a live attempt"
COUNTED = "a decline is counted in the commit that ends its attempt"
CAP = "the monthly cap is never exceeded"
SUSPENDED = "a suspended rule never charges"
TAKEN_BACK = "what refunds and disputes return is taken back once, whichever event comes first"
RETURNED = "a recharge of which money is returned suspends its rule"

# The flaws of single writes (recharge_statements) and of the search come last.
SENTENCES = (
    CAPTURED_ONCE,
    CREDITED_ONCE,
    ONE_LIVE,
    ONE_INTENT,
    SUCCEEDED,
    NEVER_CHARGES,
    ALL_CREDITED,
    PAUSED,
    COUNTED,
    CAP,
    SUSPENDED,
    TAKEN_BACK,
    RETURNED,
    "only the holder of a lease writes",
    "a final state stays",
    "every live attempt is due again",
    "nothing fails unexpectedly",
    ALL_END,
)

WRITTEN_OFF = "processing_expired"
_NO_DECLINES = (WRITTEN_OFF, stripe_model.REFUSED_CODE, "resource_missing")
_REVERSAL = ":reversal:"
_CAN_NEVER_CHARGE = (stripe_model.CANCELED, stripe_model.CREATED)


def broken(state: State) -> str | None:
    """Return the invariant that a state breaks, if any."""
    if state.tables.flaws:
        return state.tables.flaws[0]
    checks = (
        (CAPTURED_ONCE, _captured_once),
        (CREDITED_ONCE, _credited_once),
        (ONE_LIVE, _one_live),
        (ONE_INTENT, _one_intent),
        (PAUSED, _paused_has_attempt),
        (COUNTED, _declines_are_counted),
        (SUCCEEDED, _succeeded_is_credited),
        (NEVER_CHARGES, _ended_never_charges),
        (CAP, _within_cap),
        (SUSPENDED, _suspended_never_charges),
        (TAKEN_BACK, _taken_back_once),
        (RETURNED, _returned_suspends),
        (ALL_CREDITED, _all_credited),
    )
    return next((sentence for sentence, holds in checks if not holds(state)), None)


def waits_for_webhook(state: State, intent: PaymentIntent) -> bool:
    """Whether a bank paid after its attempt was written off: its webhook alone credits it."""
    captured = intent.status == stripe_model.SUCCEEDED
    return captured and not intent.webhooks and _attempt(state, intent).reason == WRITTEN_OFF


def _attempt(state: State, intent: PaymentIntent) -> Attempt:
    return next(a for a in state.tables.attempts if str(a.id) == intent.attempt)


def _captured(state: State) -> list[PaymentIntent]:
    return [one for one in state.stripe.intents if one.status == stripe_model.SUCCEEDED]


def _credited(state: State, intent: PaymentIntent) -> bool:
    return any(key == f"{keys.PAYMENT}{intent.id}" for key, _ in state.tables.ledger)


def _captured_once(state: State) -> bool:
    captures = Counter(intent.attempt for intent in _captured(state))
    return all(count == 1 for count in captures.values())


def _credited_once(state: State) -> bool:
    captured = {f"{keys.PAYMENT}{intent.id}" for intent in _captured(state)}
    rows = [(key, amount) for key, amount in state.tables.ledger if _REVERSAL not in key]
    credited = Counter(key for key, _ in rows)
    amounts = {amount for _, amount in rows}
    return (
        credited.keys() <= captured
        and all(count == 1 for count in credited.values())
        and amounts <= {AMOUNT}
    )


def _one_live(state: State) -> bool:
    return sum(attempt.is_live for attempt in state.tables.attempts) <= 1


def _one_intent(state: State) -> bool:
    intents = [intent.attempt for intent in state.stripe.intents]
    return state.stripe.forgot or len(intents) == len(set(intents))


def _paused_has_attempt(state: State) -> bool:
    paused = state.tables.rule_state == RechargeState.PAUSED_REQUIRES_ACTION
    return not paused or state.tables.live is not None


def _declines_are_counted(state: State) -> bool:
    """Compare the count with the attempts since the last success; another card resets it."""
    tables, declined = state.tables, 0
    if tables.method != FIRST_CARD:
        return True
    for attempt in tables.attempts:
        if attempt.trigger == "top_up":
            continue
        if attempt.state is AttemptState.SUCCEEDED:
            declined = 0
        elif attempt.state is AttemptState.FAILED and attempt.reason not in _NO_DECLINES:
            declined += 1
    return declined == tables.declines


def _succeeded_is_credited(state: State) -> bool:
    paid = {i.attempt for i in _captured(state) if _credited(state, i)}
    return all(
        str(attempt.id) in paid
        for attempt in state.tables.attempts
        if attempt.state is AttemptState.SUCCEEDED
    )


def _ended_never_charges(state: State) -> bool:
    for intent in state.stripe.intents:
        attempt = _attempt(state, intent)
        ended = attempt.state in (AttemptState.FAILED, AttemptState.CANCELED)
        if ended and attempt.reason != WRITTEN_OFF and intent.status not in _CAN_NEVER_CHARGE:
            return False
    return True


def _within_cap(state: State) -> bool:
    if state.tables.cap is None:
        return True
    spent: Counter[int] = Counter()
    for intent in _captured(state):
        attempt = _attempt(state, intent)
        if attempt.trigger != "top_up" and attempt.charged_at is not None:
            spent[attempt.charged_at.month] += int(attempt.amount or Decimal(0))
    return all(credits_ <= state.tables.cap for credits_ in spent.values())


def _suspended_never_charges(state: State) -> bool:
    """Check a worker that is about to confirm, and that began after the rule was suspended."""
    return not any(
        position is not None
        and position.call is not None
        and position.call.method == "confirm"
        and _read_suspended(position)
        for position in state.processes
    )


def _read_suspended(position: Position) -> bool:
    looks = [
        row["really"]
        for unit in position.log
        for rows in unit.results
        if isinstance(rows, tuple)
        for row in rows
        if isinstance(row, Row) and "really" in row.keys()  # noqa: SIM118 - a row, not a mapping
    ]
    return any(really in ("off", "suspended") for really in looks)


def _taken_back_once(state: State) -> bool:
    """Compare what was taken back with what Stripe has returned, and what its events have said.

    No event says more than Stripe has. One whose answer is on the way may have said nothing yet.
    """
    for intent in state.stripe.intents:
        prefix = f"{keys.PAYMENT}{intent.id}{_REVERSAL}"
        taken = -sum(amount for key, amount in state.tables.ledger if key.startswith(prefix))
        if taken > _level(refunded=intent.refunded, disputed=intent.disputed):
            return False
        told = _level(refunded=intent.reversal_events[0], disputed=intent.reversal_events[1])
        waits = any(answer.intent == intent.id for answer in state.asked)
        if not waits and taken < told:
            return False
    return True


def _level(*, refunded: int, disputed: int) -> Decimal:
    returned = REFUNDED_CREDITS * bool(refunded) + AMOUNT * bool(disputed)
    return min(AMOUNT, returned)


def _returned_suspends(state: State) -> bool:
    waiting = {answer.intent for answer in state.asked}
    told = any(i.id not in waiting and any(i.reversal_events) for i in state.stripe.intents)
    return not told or state.tables.rule_state == RechargeState.SUSPENDED


def _all_credited(state: State) -> bool:
    """Check an end: nobody works, nothing is on the way, and no attempt is live."""
    if any(state.processes) or state.network or state.tables.live is not None:
        return True
    return all(_credited(state, i) or waits_for_webhook(state, i) for i in _captured(state))
