"""Brings a database to the schema of this release: versioned tables, then the SQL functions.

Tables change by numbered files that run once. Functions are whole files that replace their last
version whenever their text has changed, so that a function has one place and a readable history.
All of it while the product works: see `locking` and `online`.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool
from sqlalchemy.ext.asyncio import create_async_engine

from migrations import locking, online, sequence
from migrations.citus import cluster, distribution
from migrations.citus.distribution import ClusterState, Coordinator
from migrations.head import is_newer, refuse_newer
from migrations.online import State
from shared.db import pool

if TYPE_CHECKING:
    from alembic.script import Script
    from sqlalchemy.ext.asyncio import AsyncConnection

HERE = Path(__file__).parent
VERSIONS = HERE / "versions"
SHARED = HERE.parent / "shared"
LEDGER = SHARED / "ledger" / "sql"
# In this order: PostgreSQL checks the body of a function in SQL against those that it calls.
FUNCTION_FILES = (
    SHARED / "outbound" / "functions.sql",
    LEDGER / "hash_chain.sql",
    LEDGER / "accounts.sql",
    LEDGER / "dimensions.sql",
    LEDGER / "rows.sql",
    LEDGER / "grants.sql",
    LEDGER / "budgets.sql",
    LEDGER / "expiry.sql",
    LEDGER / "recharge.sql",
    LEDGER / "messages.sql",
    LEDGER / "credits.sql",
    LEDGER / "posting.sql",
    LEDGER / "holds.sql",
    LEDGER / "hold_ends.sql",
    LEDGER / "plain_batch.sql",
    LEDGER / "batch.sql",
    LEDGER / "movements.sql",
    LEDGER / "checks.sql",
    LEDGER / "last_release.sql",
    LEDGER / "reads.sql",
    SHARED / "idempotency" / "functions.sql",
    SHARED / "inbox" / "functions.sql",
    SHARED / "payments" / "functions.sql",
)

GRANTS_FILE = HERE / "grants.sql"
# What replaces functions on a Citus cluster, after all others.
CITUS = HERE / "citus" / "sql"
CITUS_FUNCTIONS = (
    CITUS / "effects.sql",
    CITUS / "postings.sql",
    CITUS / "holds.sql",
    CITUS / "shards.sql",
)

# An index may be built for hours; a client that is gone ends its statement after this.
_SESSION = """
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_connection_check_interval = '2s'
"""
_FUNCTION_NAME = re.compile(r"^CREATE OR REPLACE FUNCTION (\w+)", re.MULTILINE)
_FUNCTION_TABLE = """
CREATE TABLE IF NOT EXISTS schema_functions (
    file text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
_FUNCTION_RECORD = """
INSERT INTO schema_functions (file, sha256) VALUES ($1, $2)
ON CONFLICT (file) DO UPDATE SET sha256 = excluded.sha256, applied_at = now()
"""


class MigrationStatus(TypedDict):
    """Where a database stands, and where this release wants it.

    `indexesMissing` and `indexesInvalid` name the online steps (indexes, constraints) that are not
    done, or were killed before they were. A schema is `newer` when a later release has migrated it:
    processes of this release go on with it, and this release can neither migrate nor compare it.
    """

    current: str | None
    head: str
    functionsCurrent: bool
    indexesMissing: list[str]
    indexesInvalid: list[str]
    upToDate: bool
    newer: bool


async def migrate(
    database_url: str,
    *,
    app_role: str | None = None,
    versions: Sequence[Path] = (VERSIONS,),
    wait_seconds_max: float = locking.WAIT_SECONDS_MAX,
    report: Callable[[str], None] = lambda _line: None,
    coordinator: Coordinator | None = None,
) -> None:
    """Bring the database up to date, while others use it; does nothing where it already is.

    Each migration is a transaction of its own, and so are the functions, except that a migration
    which the functions of the last release would fail on commits together with those of this one.
    Indexes are built after their migration, outside a transaction. After an interruption, the
    next run continues from there.

    No lock is waited for longer than a second at a time; raises UnavailableError after
    `wait_seconds_max` in all. `app_role` is the role of the processes, if they have one of their
    own: it gets the privileges that they need, and none that could change the ledger.

    With the address of a `coordinator`, the database is then distributed over its Citus cluster;
    raises ConflictError where there is none. Raises it too where a later release has migrated.
    """
    async with _engine(database_url).connect() as connection:
        raw: Any = (await connection.get_raw_connection()).driver_connection
        state = await cluster.read_state(raw)
        if coordinator is not None:
            distribution.check(state, coordinator)
        await raw.execute(_SESSION)
        if state.version is not None:
            await raw.execute(distribution.LOCAL_TABLES_STAY)
        lock_retrier = locking.LockRetrier(raw, wait_seconds_max, report)
        async with lock_retrier.turn():
            await _Migration(connection, raw, lock_retrier, versions, report).run(app_role)
            if coordinator is not None:
                await cluster.distribute(
                    raw,
                    coordinator,
                    function_names(),
                    create_functions=lambda: _create_all_functions(raw),
                    lock_retrier=lock_retrier,
                    report=report,
                )


class _Migration:
    """One run, under the advisory lock, on one connection."""

    def __init__(
        self,
        connection: AsyncConnection,
        raw: asyncpg.Connection[asyncpg.Record],
        lock_retrier: locking.LockRetrier,
        versions: Sequence[Path],
        report: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._raw = raw
        self._lock_retrier = lock_retrier
        self._config = _config(versions=versions)
        self._report = report

    async def run(self, app_role: str | None) -> None:
        current = await _current(self._raw)
        refuse_newer(current, _head(self._config))
        alone, with_functions = sequence.split(sequence.pending(self._config, current))
        await self._run_online_steps()
        for migration in alone:
            await self._transaction(f"migration {migration.revision}", [migration])
            await self._run_online_steps()

        async def functions() -> None:
            await _apply_functions(self._raw)
            if app_role:
                await _grant(self._raw, app_role)

        names = ", ".join(["the functions", *(script.revision for script in with_functions)])
        await self._transaction(names, with_functions, functions)
        await self._run_online_steps()

    async def _transaction(
        self,
        name: str,
        scripts: Sequence[Script],
        then: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        async def step() -> None:
            async with self._connection.begin():
                milliseconds = int(locking.LOCK_SECONDS_MAX * 1000)
                await self._connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")
                for script in scripts:
                    await self._connection.run_sync(_upgrade, self._config, script.revision)
                if then is not None:
                    await then()

        await self._lock_retrier.run(f"a lock: {name}", step)

    async def _run_online_steps(self) -> None:
        for step in sequence.online_steps(self._config, await _current(self._raw)):

            async def run(step: online.Step = step) -> None:
                await online.run(self._raw, step, self._report)

            await self._lock_retrier.run(f"a lock: {step.name}", run)


async def status(database_url: str, *, versions: Sequence[Path] = (VERSIONS,)) -> MigrationStatus:
    """Compare the database with this release, changing nothing."""
    config = _config(versions=versions)
    connection = await pool.connect(database_url, application_name="prepaid-migrate")
    try:
        current = await _current(connection)
        digests = _function_digests(await _function_files(connection))
        functions = all(
            [
                await _scalar(
                    connection,
                    "schema_functions",
                    "SELECT sha256 FROM {table} WHERE file = $1",
                    name,
                )
                == digest
                for name, digest in digests.items()
            ]
        )
        head = _head(config)
        newer = is_newer(current, head)
        steps = await online.states(
            connection, sequence.online_steps(config, head if newer else current)
        )
    finally:
        await pool.close(connection)
    return MigrationStatus(
        current=current,
        head=head,
        functionsCurrent=functions,
        indexesMissing=[name for name, state in steps.items() if state is State.MISSING],
        indexesInvalid=[name for name, state in steps.items() if state is State.INVALID],
        upToDate=current == head and functions and set(steps.values()) <= {State.DONE},
        newer=newer,
    )


def script(*, coordinator: Coordinator | None = None) -> str:
    """Return the whole schema of a new database as one SQL script, for those who run it themselves.

    With a `coordinator`, the statements that distribute it over its Citus cluster follow.
    """
    output = io.StringIO()
    with redirect_stdout(output):
        command.upgrade(_config(output), "head", sql=True)
    functions = [file.read_text(encoding="utf-8") for file in FUNCTION_FILES]
    if coordinator is not None:
        functions += _distribution_script(coordinator, functions)
    return "\n".join([output.getvalue(), *functions])


def _distribution_script(coordinator: Coordinator, functions: Sequence[str]) -> list[str]:
    """Return the steps of a new cluster as SQL."""
    every = "\n".join([*functions, *(f.read_text(encoding="utf-8") for f in CITUS_FUNCTIONS)])
    new = ClusterState(version="new", nodes=1)
    return [
        every if step.kind is distribution.Kind.FUNCTIONS else f"{step.text()};"
        for step in distribution.steps(new, coordinator, function_names())
    ]


def _config(output: io.StringIO | None = None, versions: Sequence[Path] = (VERSIONS,)) -> Config:
    config = Config(output_buffer=output) if output else Config()
    config.set_main_option("script_location", str(HERE))
    config.set_main_option("version_locations", os.pathsep.join(map(str, versions)))
    config.set_main_option("path_separator", "os")
    return config


def _head(config: Config) -> str:
    return ScriptDirectory.from_config(config).get_current_head() or ""


def _engine(database_url: str) -> Any:
    # The driver reads the URL itself, so that every form libpq knows is taken.
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(database_url, timeout=pool.CONNECT_SECONDS_MAX),
        poolclass=NullPool,
    )


def _upgrade(connection: Connection, config: Config, revision: str) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def _current(connection: asyncpg.Connection[asyncpg.Record]) -> str | None:
    current: str | None = await _scalar(
        connection, "alembic_version", "SELECT version_num FROM {table}"
    )
    return current


def function_names() -> list[str]:
    """Return the names of the functions of the ledger, which a cluster needs on every node."""
    texts = [file.read_text(encoding="utf-8") for file in FUNCTION_FILES if file.parent == LEDGER]
    return [name for text in texts for name in _FUNCTION_NAME.findall(text)]


def _function_digests(files: Sequence[Path] = FUNCTION_FILES) -> dict[str, str]:
    return {_name(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _name(file: Path) -> str:
    """Return the name that a file of functions is recorded under: its path below its room."""
    room = SHARED if file.is_relative_to(SHARED) else HERE
    return file.relative_to(room).as_posix()


async def _function_files(
    connection: asyncpg.Connection[asyncpg.Record],
) -> tuple[Path, ...]:
    """Return the files for this database: on a cluster, what replaces functions there too."""
    state = await cluster.read_state(connection)
    return (*FUNCTION_FILES, *CITUS_FUNCTIONS) if state.is_distributed else FUNCTION_FILES


async def _apply_functions(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Create the functions of the files that have changed, and what replaces some after them."""
    await connection.execute(_FUNCTION_TABLE)
    rows = await connection.fetch("SELECT file, sha256 FROM schema_functions")
    applied = {row["file"]: row["sha256"] for row in rows}
    digests = _function_digests(await _function_files(connection))
    if {name: applied.get(name) for name in digests} == digests:
        return
    for file in await _function_files(connection):
        name = _name(file)
        if applied.get(name) != digests[name] or file in CITUS_FUNCTIONS:
            await connection.execute(file.read_text(encoding="utf-8"))
            await connection.execute(_FUNCTION_RECORD, name, digests[name])


async def _create_all_functions(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Create every function again, so that Citus creates it on the nodes too."""
    async with connection.transaction():
        await connection.execute("DELETE FROM schema_functions")
        await _apply_functions(connection)


async def _grant(connection: asyncpg.Connection[asyncpg.Record], role: str) -> None:
    quoted = await connection.fetchval("SELECT quote_ident($1)", role)
    await connection.execute(GRANTS_FILE.read_text(encoding="utf-8").format(role=quoted))


async def _scalar(
    connection: asyncpg.Connection[asyncpg.Record], table: str, query: str, *args: object
) -> Any:
    if await connection.fetchval("SELECT to_regclass($1)", table) is None:
        return None
    return await connection.fetchval(query.format(table=table), *args)
