"""Runs a scenario to its end."""

from __future__ import annotations

from collections.abc import Callable

from tests.explorer.recharge_state import Scenario
from tests.explorer.recharge_world import RechargeWorld
from tests.explorer.search import Result, explore


def run_recharge(
    scenario: Scenario,
    *,
    states_max: int | None = None,
    report: Callable[[str], None] | None = None,
) -> Result:
    """Explore a scenario of auto-recharge."""
    world = RechargeWorld(scenario)
    with world.processes.programs.running(), scenario.patched():
        try:
            return explore(world, states_max=states_max, report=report)
        finally:
            world.processes.runner.close()
