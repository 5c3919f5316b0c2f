"""The scenarios of the inbox, and the rules that are removed in turn."""

from __future__ import annotations

from tests.explorer.crediting_statements import CREDIT_KEY
from tests.explorer.inbox_statements import FENCE, REOPENING
from tests.explorer.inbox_world import InboxBudget, InboxScenario
from tests.explorer.stepping import ATOMIC


def inbox_scenarios(faults: int) -> list[InboxScenario]:
    """Return the scenarios, each with at most so many kills, lease ends and failures."""
    budget = InboxBudget(faults=faults)
    return [
        InboxScenario(
            name="an event, delivered twice, failing, dead and replayed",
            events=("evt_1",),
            budget=budget._replace(faults=faults + 1, duplicates=2, replays=2),
        ),
        InboxScenario(
            name="two events about one payment",
            events=("evt_1", "evt_2"),
            budget=budget._replace(binds=0, duplicates=0),
        ),
        InboxScenario(
            name="an event that needs Stripe, and waits for its customer",
            events=("evt_3",),
            budget=budget,
        ),
    ]


_ONE = InboxBudget(faults=1, duplicates=0, replays=0, binds=0)

REMOVED_INBOX_RULES: dict[str, InboxScenario] = {
    "an outcome is fenced by the token of the lease": InboxScenario(
        name="", events=("evt_1",), budget=_ONE, removed=frozenset({FENCE})
    ),
    "an event's outcome commits together with its effects": InboxScenario(
        name="", events=("evt_1",), budget=_ONE, removed=frozenset({ATOMIC})
    ),
    "two events about one payment have one ledger key": InboxScenario(
        name="", events=("evt_1", "evt_2"), budget=_ONE, removed=frozenset({CREDIT_KEY})
    ),
    "binding a customer reopens the events that wait for it": InboxScenario(
        name="", events=("evt_3",), budget=_ONE._replace(binds=1), removed=frozenset({REOPENING})
    ),
}
