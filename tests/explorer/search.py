"""Breadth-first search over states: every state within the bounds, and the shortest way to each."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Move(Generic[S]):
    """One action: what happens, in plain words, and the state after it.

    `swaps`: the two workers have each other's names in the state after it.
    """

    words: str
    after: S
    swaps: bool = False


class World(Protocol[S]):
    """A system to explore."""

    @property
    def invariants(self) -> tuple[str, ...]:
        """The sentences that must hold in every state."""
        ...

    def start(self) -> Iterable[S]:
        """Return the first states."""
        ...

    def moves(self, state: S) -> Iterator[Move[S]]:
        """Yield what can happen in a state."""
        ...

    def broken(self, state: S) -> str | None:
        """Return the invariant that a state breaks, if any."""
        ...

    def calm(self, state: S) -> Move[S] | None:
        """Return the next move if nothing goes wrong from now on; None: all work is done."""
        ...


@dataclass(slots=True)
class Found:
    """A broken invariant, and the shortest path to it."""

    invariant: str
    path: list[str]


@dataclass(slots=True)
class Result:
    """What a search visited, and what it found."""

    states: int = 0
    moves: int = 0
    depth: int = 0
    ends: int = 0
    seconds: float = 0.0
    found: Found | None = None


CALM_MOVES_MAX = 200
CALM = "(nothing goes wrong from here on)"
ALL_END = "every attempt and event ends"

Steps = list[tuple[str, bool]]


def explore(
    world: World[S], *, states_max: int | None = None, report: Callable[[str], None] | None = None
) -> Result:
    """Visit every state, check the invariants in each, and that each leads to a good end."""
    return _Search(world, states_max, report).run()


class _Search(Generic[S]):
    def __init__(
        self, world: World[S], states_max: int | None, report: Callable[[str], None] | None
    ) -> None:
        self._world = world
        self._states_max = states_max
        self._report = report
        self._order: list[S] = []
        self._parents: list[tuple[int, str, bool]] = []
        self._places: dict[S, int] = {}
        self._good: set[S] = set()
        self._result = Result()

    def run(self) -> Result:
        began = time.process_time()
        for state in self._world.start():
            self._add(state, -1, Move("", state))
        depth_ends, place = len(self._order), 0
        while place < len(self._order):
            if place == depth_ends:
                depth_ends = len(self._order)
                self._result.depth += 1
                self._progress(began)
            if self._is_over(place):
                break
            self._visit(place)
            place += 1
        self._result.states = place
        self._result.seconds = time.process_time() - began
        return self._result

    def _is_over(self, place: int) -> bool:
        """Whether no state from here on can have a shorter path to a broken invariant."""
        found = self._result.found
        if found is not None and self._result.depth >= len(found.path) + (CALM in found.path):
            return True
        return self._states_max is not None and place >= self._states_max

    def _add(self, state: S, parent: int, move: Move[S]) -> None:
        if state not in self._places:
            self._places[state] = len(self._order)
            self._order.append(state)
            self._parents.append((parent, move.words, move.swaps))

    def _visit(self, place: int) -> None:
        state = self._order[place]
        broken = self._world.broken(state)
        if broken is not None:
            self._found(broken, self._steps(place))
            return
        if self._result.found is None:
            self._check_end(place)
        moved = False
        for move in self._world.moves(state):
            moved = True
            self._result.moves += 1
            self._add(move.after, place, move)
        if not moved:
            self._result.ends += 1

    def _found(self, invariant: str, steps: Steps) -> None:
        """Store a broken invariant, unless the path to another one is as short."""
        before, path = self._result.found, named(steps)
        if before is None or (len(path), CALM in path) < (len(before.path), CALM in before.path):
            self._result.found = Found(invariant, path)

    def _check_end(self, place: int) -> None:
        """Follow the calm moves of a state to their end, or to a state whose end is known."""
        state = self._order[place]
        followed: list[S] = []
        calm: Steps = []
        while state not in self._good:
            broken = self._world.broken(state) if followed else None
            if broken is None and len(followed) > CALM_MOVES_MAX:
                broken = ALL_END
            if broken is not None:
                self._found(broken, [*self._steps(place), (CALM, False), *calm])
                return
            followed.append(state)
            move = self._world.calm(state)
            if move is None:
                break
            calm.append((move.words, move.swaps))
            state = move.after
        self._good.update(followed)

    def _steps(self, place: int) -> Steps:
        steps: Steps = []
        while place >= 0:
            place, words, swaps = self._parents[place]
            if words:
                steps.append((words, swaps))
        return steps[::-1]

    def _progress(self, began: float) -> None:
        if self._report is not None:
            self._report(
                f"depth {self._result.depth}: {len(self._order):,} states,"
                f" {self._result.moves:,} moves, {time.process_time() - began:.0f} s"
            )


def named(steps: Steps) -> list[str]:
    """Return the words of a path, with the same name for each worker all the way."""
    path, swapped = [], False
    for words, swaps in steps:
        path.append(_exchanged(words) if swapped else words)
        swapped ^= swaps
    return path


def _exchanged(words: str) -> str:
    one, two = "worker 1", "worker 2"
    return words.replace(one, "\0").replace(two, one).replace("\0", two)
