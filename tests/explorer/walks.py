"""Random walks through a world, with the statements that the product executed on the way."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random
from typing import Any, Generic, Protocol, TypeVar

from tests.explorer.search import Move
from tests.explorer.stepping import Executed, Runner

S = TypeVar("S", bound=Hashable)


class WalkableWorld(Protocol[S]):
    """A world of processes that keep their own names on the way."""

    @property
    def runner(self) -> Runner[Any]:
        """What executes the statements."""
        ...

    def running(self) -> AbstractContextManager[None]: ...

    def close(self) -> None: ...

    def forget(self) -> None:
        """Forget the steps that were made, so that they are executed again."""
        ...

    def start(self) -> Iterable[S]: ...

    def unordered_moves(self, state: S) -> Iterator[Move[S]]:
        """Yield the moves with each process under its own name."""
        ...


@dataclass(frozen=True, slots=True)
class Stride(Generic[S]):
    """One move of a walk, and what the product executed in it."""

    words: str
    before: S
    after: S
    executed: tuple[Executed, ...]


def walk(world: WalkableWorld[S], seed: int, *, moves_max: int) -> list[Stride[S]]:
    """Return a random walk; the seed decides each move."""
    random = Random(seed)  # noqa: S311 - a seed
    strides: list[Stride[S]] = []
    with world.running():
        (state,) = world.start()
        while len(strides) < moves_max:
            count = sum(1 for _ in world.unordered_moves(state))
            if count == 0:
                break
            strides.append(_stride(world, state, random.randrange(count)))
            state = strides[-1].after
    world.close()
    return strides


def covering_walks(
    make_world: Callable[[], WalkableWorld[S]],
    seeds: Iterable[int],
    *,
    moves_max: int,
    about: Callable[[S], Hashable],
) -> list[list[Stride[S]]]:
    """Return those walks that execute a statement in circumstances that no earlier one had.

    `about` returns the circumstances of a state.
    """
    seen: set[Hashable] = set()
    walks = []
    for seed in seeds:
        made = walk(make_world(), seed, moves_max=moves_max)
        covered = {
            (sql, about(stride.before), about(stride.after))
            for stride in made
            for executed in stride.executed
            for sql, _ in executed.statements
        }
        if not covered <= seen:
            walks.append(made)
            seen |= covered
    return walks


def _stride(world: WalkableWorld[S], state: S, chosen: int) -> Stride[S]:
    """Make one of the moves again, and record what it executes."""
    moves = world.unordered_moves(state)
    for _ in range(chosen):
        next(moves)
    world.forget()
    executed: list[Executed] = []
    world.runner.executed = executed
    move = next(moves)
    world.runner.executed = None
    return Stride(move.words, state, move.after, tuple(executed))
