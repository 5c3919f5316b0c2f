"""Random walks through a scenario, with the statements that the product executed on the way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from random import Random

from tests.explorer.recharge_state import Scenario, State
from tests.explorer.recharge_world import RechargeWorld
from tests.explorer.search import Move
from tests.explorer.stepping import Executed


@dataclass(frozen=True, slots=True)
class Stride:
    """One move of a walk. `passed`, `used` and `another_card` changed rows without a statement."""

    words: str
    before: State
    after: State
    executed: tuple[Executed, ...]
    passed: timedelta
    used: Decimal
    another_card: bool


def walk(scenario: Scenario, seed: int, *, moves_max: int) -> list[Stride]:
    """Return a random walk; the seed decides each move."""
    random = Random(seed)  # noqa: S311 - a seed
    world = RechargeWorld(scenario)
    strides: list[Stride] = []
    with world.running(), scenario.patched():
        (state,) = world.start()
        while len(strides) < moves_max and not state.tables.at_bound:
            count = sum(1 for _ in world.unordered_moves(state))
            if count == 0:
                break
            stride = _stride(world, state, random.randrange(count))
            strides.append(stride)
            state = stride.after
    world.close()
    return strides


def _stride(world: RechargeWorld, state: State, chosen: int) -> Stride:
    """Make one of the moves again, and record what it executes."""
    moves = world.unordered_moves(state)
    for _ in range(chosen):
        next(moves)
    world.processes.forget()
    executed: list[Executed] = []
    world.processes.runner.executed = executed
    move: Move[State] = next(moves)
    world.processes.runner.executed = None
    before, after = state.tables, move.after.tables
    uses = move.words.startswith("the customer: uses")
    return Stride(
        words=move.words,
        before=state,
        after=move.after,
        executed=tuple(executed),
        passed=move.after.now - state.now,
        used=before.balance - after.balance if uses else Decimal(0),
        another_card=before.method != after.method,
    )
