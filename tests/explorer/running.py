"""Runs scenarios to their end, and prints what was visited and found."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tests.explorer.inbox_world import InboxScenario, InboxWorld
from tests.explorer.recharge_state import Scenario
from tests.explorer.recharge_world import RechargeWorld
from tests.explorer.search import Result, World, explore

AnyScenario = Scenario | InboxScenario
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Explored:
    """A scenario, its result, and the invariants that were checked in each of its states."""

    name: str
    result: Result
    invariants: tuple[str, ...]


def run(
    scenario: AnyScenario,
    *,
    states_max: int | None = None,
    report: Report | None = None,
) -> Explored:
    """Explore a scenario of auto-recharge or of the inbox."""
    if isinstance(scenario, Scenario):
        return _run(RechargeWorld(scenario), scenario, states_max, report)
    return _run(InboxWorld(scenario), scenario, states_max, report)


S = TypeVar("S", bound=Hashable)


class RunnableWorld(World[S], Protocol[S]):
    """A world whose processes run inside a context, and are closed afterwards."""

    def running(self) -> AbstractContextManager[None]: ...

    def close(self) -> None: ...


def _run(
    world: RunnableWorld[S],
    scenario: AnyScenario,
    states_max: int | None,
    report: Report | None,
) -> Explored:
    with world.running(), scenario.patched():
        try:
            result = explore(world, states_max=states_max, report=report)
        finally:
            world.close()
    return Explored(scenario.name, result, world.invariants)


def line(explored: Explored) -> str:
    """Return a line of the table."""
    result = explored.result
    verdict = "holds" if result.found is None else "BROKEN"
    return (
        f"{explored.name:<58}{result.states:>10,}{result.moves:>11,}{result.depth:>6}"
        f"{result.seconds:>8.1f} s  {verdict}"
    )


HEAD = f"{'scenario':<58}{'states':>10}{'moves':>11}{'depth':>6}{'CPU':>10}"


def path(explored: Explored) -> str:
    """Return the shortest path to a broken invariant, a step a line."""
    found = explored.result.found
    if found is None:
        return ""
    steps = [f"    {number:>2}. {step}" for number, step in enumerate(found.path, start=1)]
    return "\n".join([f"  broken: {found.invariant}", *steps])
