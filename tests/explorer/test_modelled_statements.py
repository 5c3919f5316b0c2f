"""The explorer's model of each statement changes the same rows as the statement on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.explorer.mirroring import Mirror, differences
from tests.explorer.recharge_scenarios import scenarios
from tests.explorer.recharge_state import Scenario
from tests.explorer.walks import walk
from tests.fixtures.product import create_organization
from tests.fixtures.profile import cases

if TYPE_CHECKING:
    from shared.db.pool import Pool

WALKS = cases(quick=3, thorough=10)
MOVES_MAX = 60
OF_RULES = [scenario for scenario in scenarios(2) if not scenario.top_up]


@pytest.mark.parametrize("scenario", OF_RULES, ids=lambda one: one.name)
async def test_the_model_of_the_statements_agrees_with_postgresql(
    pool: Pool, scenario: Scenario
) -> None:
    for seed in range(WALKS):
        strides = await asyncio.to_thread(walk, scenario, seed, moves_max=MOVES_MAX)
        mirror = Mirror(pool, await create_organization(pool, f"walk-{seed}"))
        await mirror.begin(strides[0].before.tables, strides[0].before.now)
        for number, stride in enumerate(strides):
            await mirror.make(stride)
            if stride.after.tables.at_bound:
                break
            found = differences(mirror.expected(stride.after.tables), await mirror.rows())
            history = "\n".join(one.words for one in strides[: number + 1])
            assert not found, f"seed {seed}:\n{history}\n{found}"
