"""Every interleaving within small bounds. `make explore` visits more."""

from __future__ import annotations

import pytest

from tests.explorer.inbox_scenarios import REMOVED_INBOX_RULES, inbox_scenarios
from tests.explorer.recharge_invariants import RETURNED, TAKEN_BACK
from tests.explorer.recharge_scenarios import REMOVED_RULES, narrowed, scenarios
from tests.explorer.running import AnyScenario, path, run

SMALL: list[AnyScenario] = [scenarios(1)[0], *map(narrowed, scenarios(2)[1:]), *inbox_scenarios(1)]
BROKEN_BY = {
    "each write is fenced by the token of the lease": "only the holder of a lease writes",
    "the ledger posts a payment's key once": (
        "a payment is credited at most once, and only after it was captured"
    ),
    "the id of a PaymentIntent is committed before it is confirmed": (
        "an attempt that ended otherwise can never charge"
    ),
    "a creation is repeated under the same idempotency key": (
        "an attempt has one PaymentIntent, while Stripe keeps its idempotency keys"
    ),
    "a confirmation without an answer is looked up": (
        "an attempt that ended otherwise can never charge"
    ),
    "a PaymentIntent is canceled before its attempt ends": (
        "an attempt that ended otherwise can never charge"
    ),
    "a state commits together with its effects": (
        "a decline is counted in the commit that ends its attempt"
    ),
    "the event of a refund credits its payment first": TAKEN_BACK,
    "an older answer of Stripe about a payment changes nothing": TAKEN_BACK,
    "the part that is taken back of a payment is read under its lock": TAKEN_BACK,
    "a refund of a recharge suspends its rule": RETURNED,
    "a dispute suspends the rule of its payment": RETURNED,
    "whether the rule may charge is read again after a lease ended": (
        "a suspended rule never charges"
    ),
    "an outcome is fenced by the token of the lease": "only the holder of a lease writes",
    "an event's outcome commits together with its effects": (
        "an event's effects and its outcome commit together"
    ),
    "two events about one payment have one ledger key": "each payment is credited at most once",
    "binding a customer reopens the events that wait for it": (
        "no event waits for a customer that is bound"
    ),
}
REMOVED: dict[str, AnyScenario] = {**REMOVED_RULES, **REMOVED_INBOX_RULES}


@pytest.mark.parametrize("scenario", SMALL, ids=lambda one: one.name)
def test_no_interleaving_breaks_an_invariant(scenario: AnyScenario) -> None:
    explored = run(scenario)
    assert explored.result.found is None, path(explored)
    assert explored.result.states > 100, "the scenario does not begin"


@pytest.mark.parametrize("rule", REMOVED)
def test_a_removed_rule_is_found_by_the_shortest_path(rule: str) -> None:
    explored = run(REMOVED[rule])
    assert explored.result.found is not None
    assert explored.result.found.invariant == BROKEN_BY[rule]
    assert len(explored.result.found.path) <= 14
