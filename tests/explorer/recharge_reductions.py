"""What can never matter any more is forgotten, so that states that differ in it alone are the same.

Each reduction leaves what can happen as it is: nothing that is forgotten can change a row, a book
of Stripe's, or a later step of a process.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from tests.explorer import stripe_model
from tests.explorer.recharge_processes import Processes
from tests.explorer.recharge_state import NAMES, WORK, State, unused_keys, with_process

_FENCED = frozenset({"begin", "store_intent", "store_decline", "transition"})
_FINAL = (stripe_model.SUCCEEDED, stripe_model.CANCELED)
_CARRIES = ("top_up", *WORK)


def reduced(state: State, processes: Processes) -> State:
    """Return a state without what can never matter any more."""
    return without_old_keys(_without_links(_without_requests(_without_fenced(state, processes))))


def without_old_keys(state: State) -> State:
    """Forget stored answers under keys that nobody can send any more."""
    return state._replace(stripe=state.stripe.without_keys(unused_keys(state)))


def _without_fenced(state: State, processes: Processes) -> State:
    """End a process whose lease is another's, and whose write the fence refuses.

    A token never returns to a process that stands at a write: the write is refused whenever it
    comes, and rolls back.
    """
    live = state.tables.live
    for place, position in enumerate(state.processes):
        if position is None or position.call is not None or not position.log:
            continue
        if cast("tuple[str, ...]", position.program)[0] not in _CARRIES or (
            live is not None and live.lease == NAMES[place]
        ):
            continue
        step = processes.runner.step(position, NAMES[place], state.tables, now=state.now)
        refused = step.position is None and step.error is None and step.tables == state.tables
        if refused and _FENCED & set(step.statements):
            state = with_process(state, place, None)
    return state


def _without_requests(state: State) -> State:
    """Forget requests on the way about PaymentIntents that no request changes any more."""
    final = {intent.id for intent in state.stripe.intents if intent.status in _FINAL}
    left = tuple(call for call in state.network if call.about not in final)
    return state if len(left) == len(state.network) else state._replace(network=left)


def _without_links(state: State) -> State:
    """Forget the links of attempts that ended, where no customer can use them any more."""
    usable = state.budget.authentications > 0
    final = {intent.id for intent in state.stripe.intents if intent.status in _FINAL}
    attempts = tuple(
        replace(attempt, link_expires_at=None)
        if attempt.link_expires_at
        and not attempt.is_live
        and not (usable and attempt.intent not in final)
        else attempt
        for attempt in state.tables.attempts
    )
    if attempts == state.tables.attempts:
        return state
    return state._replace(tables=replace(state.tables, attempts=attempts))
