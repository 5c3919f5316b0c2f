"""The explorer's model of each statement changes the same rows as the statement on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.explorer.inbox_mirror import InboxMirror
from tests.explorer.inbox_scenarios import inbox_scenarios
from tests.explorer.inbox_world import InboxScenario, InboxState, InboxWorld
from tests.explorer.mirroring import differences
from tests.explorer.recharge_mirror import RechargeMirror
from tests.explorer.recharge_scenarios import scenarios
from tests.explorer.recharge_state import Scenario, State
from tests.explorer.recharge_world import RechargeWorld
from tests.explorer.walks import covering_walks
from tests.fixtures.product import create_organization
from tests.fixtures.profile import cases

if TYPE_CHECKING:
    from shared.db.pool import Pool

SEEDS = range(cases(quick=12, thorough=200))
MOVES_MAX = 40
OF_RULES = [scenario for scenario in scenarios(2) if not scenario.top_up]


def _rule(state: State) -> str:
    live = state.tables.live
    return f"{state.tables.rule_state} {live.state if live else None}"


def _states(state: InboxState) -> tuple[str, ...]:
    return tuple(f"{event.state} {event.lane}" for event in state.tables.events)


@pytest.mark.parametrize("scenario", OF_RULES, ids=lambda one: one.name)
async def test_the_model_of_recharges_agrees_with_postgresql(
    pool: Pool, scenario: Scenario
) -> None:
    walks = await asyncio.to_thread(
        covering_walks, lambda: RechargeWorld(scenario), SEEDS, moves_max=MOVES_MAX, about=_rule
    )
    for name, strides in enumerate(walks):
        mirror = RechargeMirror(pool, await create_organization(pool, f"walk-{name:03}"))
        await mirror.begin(strides[0].before.tables, strides[0].before.now)
        for number, stride in enumerate(strides, start=1):
            await mirror.make(stride)
            if stride.after.tables.at_bound:
                break  # PostgreSQL has a third attempt, and the model no more
            found = differences(mirror.expected(stride.after.tables), await mirror.rows())
            assert not found, ([one.words for one in strides[:number]], found)


@pytest.mark.parametrize("scenario", inbox_scenarios(2), ids=lambda one: one.name)
async def test_the_model_of_the_inbox_agrees_with_postgresql(
    pool: Pool, scenario: InboxScenario
) -> None:
    walks = await asyncio.to_thread(
        covering_walks, lambda: InboxWorld(scenario), SEEDS, moves_max=MOVES_MAX, about=_states
    )
    for name, strides in enumerate(walks):
        mirror = InboxMirror(pool, await create_organization(pool, f"walk-{name:03}"))
        await mirror.begin()
        for number, stride in enumerate(strides, start=1):
            await mirror.make(stride)
            found = differences(mirror.expected(stride.after.tables), await mirror.rows())
            assert not found, ([one.words for one in strides[:number]], found)
