"""Runs coroutines of the product one committed step at a time.

A program, such as a worker's round or a cancellation, is a coroutine of the product. It reaches the
world by statements, transactions and requests to Stripe alone, and here each of them goes through a
`Port`. A step is one statement outside a transaction, one whole transaction, or one answer of
Stripe.

Where a program stands is its log: the results that it has received. A coroutine cannot be copied,
so a step runs the program again from its start with the results of its log, then once against the
current rows, up to its next request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, Protocol, TypeVar
from uuid import UUID

Tables = TypeVar("Tables")


class Remembered:
    """A frozen dataclass that computes its hash once: states are looked up millions of times."""

    def __hash__(self) -> int:
        known: int | None = self.__dict__.get("_hash")
        if known is None:
            values = self.__dict__
            known = hash(tuple(values[name] for name in self.__dataclass_fields__))
            object.__setattr__(self, "_hash", known)
        return known

    __dataclass_fields__: ClassVar[dict[str, Any]]


class ParkedError(BaseException):
    """The program needs another step; unwinds it, as the death of its process would."""

    def __init__(self, call: StripeCall | None) -> None:
        super().__init__()
        self.call = call


class StatementError(Exception):
    """PostgreSQL fails a statement: a fault of the explorer."""


@dataclass(frozen=True, slots=True)
class StripeCall:
    """A request to Stripe. `key` is its idempotency key, `about` the object's id or attempt."""

    method: str
    about: str
    key: str | None = None


class Row:
    """A row of a result: by column like asyncpg's, and hashable."""

    __slots__ = ("_hash", "_values")

    def __init__(self, **values: Any) -> None:
        self._values = values
        self._hash: int | None = None

    def __getitem__(self, column: str | int) -> Any:
        return (
            list(self._values.values())[column] if isinstance(column, int) else self._values[column]
        )

    def keys(self) -> Any:
        return self._values.keys()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Row) and self._values == other._values

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(tuple(self._values.items()))
        return self._hash

    def __repr__(self) -> str:
        return f"Row({self._values})"


Rows = tuple[Row, ...]


@dataclass(frozen=True)
class Unit(Remembered):
    """One step of a log: the results that the program received, and its time if it was read.

    A step whose time nobody read is the same at any time.
    """

    __hash__ = Remembered.__hash__

    now: datetime | None
    results: tuple[Any, ...]


Log = tuple[Unit, ...]
# A rule that a run may remove: all statements of a transaction commit together.
ATOMIC = "one commit"


@dataclass(frozen=True)
class Position(Remembered):
    """Where a program stands: what it is, its log, and the request to Stripe that it makes next.

    `call` is None where it executes a statement or a transaction next.
    """

    __hash__ = Remembered.__hash__

    program: Hashable
    log: Log
    call: StripeCall | None


@dataclass(frozen=True, slots=True)
class Step(Generic[Tables]):
    """The result of a step. `position` is None where the program ended, by `error` or normally.

    `statements` are the names of those that were executed.
    """

    position: Position | None
    tables: Tables
    statements: tuple[str, ...] = ()
    error: str | None = None


class Database(Protocol[Tables]):
    """A model of the product's statements over immutable tables."""

    def execute(
        self, port: Port[Tables], tables: Tables, sql: str, args: tuple[Any, ...]
    ) -> tuple[Tables, Rows]:
        """Return the tables after a statement, and its rows. Raises LookupError if unknown."""
        ...

    def name(self, sql: str) -> str:
        """Return the name of a statement."""
        ...

    def token(self, sql: str, args: tuple[Any, ...]) -> UUID | None:
        """Return the new lease token that a statement stores, if it does."""
        ...


class Port(Generic[Tables]):
    """A program's only connection to the world: a pool, its connection, the clock, and Stripe."""

    def __init__(
        self,
        database: Database[Tables],
        process: str,
        log: Log,
        *,
        tables: Tables | None = None,
        now: datetime,
        tries: int = 1,
        fails: str | None = None,
        removed: frozenset[str] = frozenset(),
    ) -> None:
        self.database = database
        self.removed = removed
        self.process = process
        self.tries = tries
        self.tables = tables
        self.results: list[Any] = []
        self.statements: list[str] = []
        self.executed: list[tuple[str, tuple[Any, ...]]] = []
        self.stepped = False
        self.read_time = False
        self._log = log
        self._next_unit = 0
        self._replayed: list[Any] = []
        self._live_now = now
        self._now = now
        self._depth = 0
        self._tokens: set[UUID] = set()
        self._fails = fails
        self._live = False
        self._ids = 0

    def now(self) -> datetime:
        self.read_time = True
        return self._now

    def make_id(self) -> UUID:
        """Return ids that are the same whenever the program runs again."""
        self._ids += 1
        return UUID(int=self._ids << 64 | sum(self.process.encode()))

    def tokens(self) -> frozenset[UUID]:
        """Return the lease tokens that this program made."""
        return frozenset(self._tokens)

    def holds(self, token: UUID) -> bool:
        """Return whether this program made a lease token."""
        return token in self._tokens

    def acquire(self) -> Any:
        return _Acquired(self)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        if ATOMIC in self.removed:
            yield
            return
        if self._depth == 0:
            self._begin_unit(None)
        before, executed = self.tables, len(self.executed)
        self._depth += 1
        try:
            yield
        except BaseException:
            self.tables = before
            del self.executed[executed:]
            raise
        finally:
            self._depth -= 1

    def limit_next_transaction(self, **_: int) -> None:
        """Limit nothing: no statement of a model waits."""

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        return list(self._execute(sql, args))

    async def fetchmany(self, sql: str, args: Sequence[tuple[Any, ...]]) -> list[Row]:
        return [row for one in args for row in self._execute(sql, one)]

    async def fetchrow(self, sql: str, *args: Any) -> Row | None:
        return next(iter(self._execute(sql, args)), None)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        row = next(iter(self._execute(sql, args)), None)
        return None if row is None else row[0]

    async def execute(self, sql: str, *args: Any) -> str:
        return str(len(self._execute(sql, args)))

    async def request(self, call: StripeCall) -> Any:
        """Return Stripe's answer, if the log has it; else the step ends here."""
        assert self._depth == 0, f"Stripe is called inside a transaction: {call.method}"
        self._begin_unit(call)
        return self._replayed.pop(0)

    def _execute(self, sql: str, args: tuple[Any, ...]) -> Rows:
        if self._depth == 0:
            self._begin_unit(None)
        token = self.database.token(sql, args)
        if token is not None:
            self._tokens.add(token)
        if not self._live:
            result = self._replayed.pop(0)
        else:
            result = self._execute_now(sql, args)
            self.results.append(result)
        if isinstance(result, StatementError):
            raise result
        rows: Rows = result
        return rows

    def _execute_now(self, sql: str, args: tuple[Any, ...]) -> Rows | StatementError:
        name = self.database.name(sql)
        if name == self._fails:
            self._fails = None
            return StatementError(name)
        assert self.tables is not None
        self.statements.append(name)
        self.executed.append((sql, args))
        self.tables, rows = self.database.execute(self, self.tables, sql, args)
        return rows

    def _begin_unit(self, call: StripeCall | None) -> None:
        """Go on with the next step of the log, or make the one new step, or end here."""
        if self._next_unit < len(self._log):
            unit = self._log[self._next_unit]
            self._next_unit += 1
            self._replayed, self._now = list(unit.results), unit.now or self._live_now
            self.read_time = False
            return
        if call is not None or self.stepped or self.tables is None:
            raise ParkedError(call)
        self.stepped = self._live = True
        self._now, self.read_time = self._live_now, False


@dataclass(frozen=True, slots=True)
class Executed:
    """The statements of one step, with their arguments, and the lease tokens of its process."""

    process: str
    statements: tuple[tuple[str, tuple[Any, ...]], ...]
    tokens: frozenset[UUID]


class _Acquired:
    """A connection for the duration of a block."""

    def __init__(self, port: Any) -> None:
        self._port = port

    async def __aenter__(self) -> Any:
        return self._port

    async def __aexit__(self, *_: object) -> None:
        return None


Start = Callable[[Hashable, Port[Any]], Coroutine[Any, Any, Any]]


class Runner(Generic[Tables]):
    """Makes steps of programs, each once: a repeated step is remembered."""

    def __init__(
        self,
        database: Database[Tables],
        start: Start,
        *,
        removed: frozenset[str] = frozenset(),
    ) -> None:
        self.database = database
        self._removed = removed
        self._start = start
        self._loop = asyncio.new_event_loop()
        self._known: dict[Hashable, Step[Any]] = {}
        self.executed: list[Executed] | None = None  # where somebody records what is executed

    def close(self) -> None:
        self._loop.close()

    def step(
        self,
        position: Position,
        process: str,
        tables: Tables,
        *,
        now: datetime,
        tries: int = 1,
        fails: str | None = None,
    ) -> Step[Tables]:
        """Execute the statement or transaction at which a program stands."""
        name = (position, process, tables, now, tries, fails)
        if name not in self._known:
            port = Port(
                self.database, process, position.log,
                tables=tables, now=now, tries=tries, fails=fails, removed=self._removed,
            )  # fmt: skip
            self._known[name] = self._run(position, port)
            if self.executed is not None and port.executed:
                self.executed.append(Executed(process, tuple(port.executed), port.tokens()))
        return self._known[name]

    def forget(self) -> None:
        """Forget the steps that were made, so that they are executed again."""
        self._known.clear()

    def answer(
        self, position: Position, process: str, answer: Any, *, now: datetime
    ) -> Step[Tables | None]:
        """Give a program Stripe's answer to the request at which it stands; no rows change."""
        log = (*position.log, Unit(now, (answer,)))
        name = (position, process, answer, now)
        if name not in self._known:
            port: Port[Tables] = Port(self.database, process, log, now=now, removed=self._removed)
            self._known[name] = self._run(Position(position.program, log, None), port)
        return self._known[name]

    @staticmethod
    def _time_of(port: Port[Tables]) -> datetime | None:
        return port.now() if port.read_time else None

    def _run(self, position: Position, port: Port[Tables]) -> Step[Any]:
        error = None
        try:
            self._loop.run_until_complete(self._start(position.program, port))
        except ParkedError as parked:
            log, now = position.log, self._time_of(port)
            if port.stepped:
                log = (*log, Unit(now, tuple(port.results)))
            elif log:  # the last one is Stripe's answer
                log = (*log[:-1], Unit(now, log[-1].results))
            after = Position(position.program, log, parked.call)
            return Step(after, port.tables, tuple(port.statements))
        except Exception as caught:  # noqa: BLE001 - the world judges it
            error = f"{type(caught).__name__}: {caught}"
        return Step(None, port.tables, tuple(port.statements), error)
