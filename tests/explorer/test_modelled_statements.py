"""The explorer's model of each statement changes the same rows as the statement on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.explorer.inbox_mirror import InboxMirror
from tests.explorer.inbox_scenarios import inbox_scenarios
from tests.explorer.inbox_world import InboxScenario, InboxWorld
from tests.explorer.mirroring import differences
from tests.explorer.recharge_mirror import RechargeMirror
from tests.explorer.recharge_scenarios import scenarios
from tests.explorer.recharge_state import Scenario
from tests.explorer.recharge_world import RechargeWorld
from tests.explorer.walks import walk
from tests.fixtures.product import create_organization
from tests.fixtures.profile import cases

if TYPE_CHECKING:
    from shared.db.pool import Pool

WALKS = cases(quick=3, thorough=10)
MOVES_MAX = 60
OF_RULES = [scenario for scenario in scenarios(2) if not scenario.top_up]


@pytest.mark.parametrize("scenario", OF_RULES, ids=lambda one: one.name)
async def test_the_model_of_recharges_agrees_with_postgresql(
    pool: Pool, scenario: Scenario
) -> None:
    for seed in range(WALKS):
        world = RechargeWorld(scenario)
        strides = await asyncio.to_thread(walk, world, seed, moves_max=MOVES_MAX)
        mirror = RechargeMirror(pool, await create_organization(pool, f"walk-{seed}"))
        await mirror.begin(strides[0].before.tables, strides[0].before.now)
        for number, stride in enumerate(strides, start=1):
            await mirror.make(stride)
            if stride.after.tables.at_bound:
                break  # PostgreSQL has a third attempt, and the model no more
            found = differences(mirror.expected(stride.after.tables), await mirror.rows())
            assert not found, (seed, [one.words for one in strides[:number]], found)


@pytest.mark.parametrize("scenario", inbox_scenarios(2), ids=lambda one: one.name)
async def test_the_model_of_the_inbox_agrees_with_postgresql(
    pool: Pool, scenario: InboxScenario
) -> None:
    for seed in range(WALKS):
        world = InboxWorld(scenario)
        strides = await asyncio.to_thread(walk, world, seed, moves_max=MOVES_MAX)
        mirror = InboxMirror(pool, await create_organization(pool, f"walk-{seed}"))
        await mirror.begin()
        for number, stride in enumerate(strides, start=1):
            await mirror.make(stride)
            found = differences(mirror.expected(stride.after.tables), await mirror.rows())
            assert not found, (seed, [one.words for one in strides[:number]], found)
