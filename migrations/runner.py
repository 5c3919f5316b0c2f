"""Brings a database to the schema of this release: versioned tables, then the SQL functions.

Tables change by numbered files that run once. Functions are whole files that replace their last
version whenever their text has changed, so that a function has one place and a readable history.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TypedDict

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool
from sqlalchemy.ext.asyncio import create_async_engine

HERE = Path(__file__).parent
SHARED = HERE.parent / "shared"
FUNCTION_FILES = (
    SHARED / "notifications" / "functions.sql",
    SHARED / "ledger" / "functions.sql",
    SHARED / "idempotency" / "functions.sql",
)

GRANTS_FILE = HERE / "grants.sql"
CITUS_FILE = HERE / "citus.sql"

# Two processes that migrate at once (a rolling deploy) take turns on this advisory lock.
MIGRATION_LOCK = 7_221_733

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
    """Where a database stands, and where this release wants it."""

    current: str | None
    head: str
    functionsCurrent: bool
    upToDate: bool


async def migrate(database_url: str, *, app_role: str | None = None) -> None:
    """Bring the database up to date in one transaction; does nothing where it already is.

    `app_role` is the role of the processes, if they have one of their own: it is given what they
    need, and nothing that could change the ledger.
    """
    async with _engine(database_url).begin() as connection:
        await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        await connection.run_sync(_upgrade)
        raw: Any = await connection.get_raw_connection()
        await _apply_functions(raw.driver_connection)
        if app_role:
            await _grant(raw.driver_connection, app_role)


async def status(database_url: str) -> MigrationStatus:
    """Compare the database with this release, changing nothing."""
    connection = await asyncpg.connect(database_url)
    try:
        current = await _scalar(connection, "alembic_version", "SELECT version_num FROM {table}")
        functions = all(
            [
                await _scalar(
                    connection,
                    "schema_functions",
                    "SELECT sha256 FROM {table} WHERE file = $1",
                    name,
                )
                == digest
                for name, digest in _function_digests().items()
            ]
        )
    finally:
        await connection.close()
    head = ScriptDirectory.from_config(_config()).get_current_head() or ""
    return MigrationStatus(
        current=current,
        head=head,
        functionsCurrent=functions,
        upToDate=current == head and functions,
    )


def script(*, citus: bool = False) -> str:
    """Return the whole schema as one SQL script, for those who run it by hand.

    `citus` adds the statements that distribute it over a Citus cluster.
    """
    output = io.StringIO()
    with redirect_stdout(output):
        command.upgrade(_config(output), "head", sql=True)
    functions = [file.read_text(encoding="utf-8") for file in FUNCTION_FILES]
    distribution = [CITUS_FILE.read_text(encoding="utf-8")] if citus else []
    return "\n".join([output.getvalue(), *functions, *distribution])


def _config(output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output) if output else Config()
    config.set_main_option("script_location", str(HERE))
    config.set_main_option("path_separator", "os")
    return config


def _engine(database_url: str) -> Any:
    # The driver reads the URL itself, so that every form libpq knows is taken.
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(database_url),
        poolclass=NullPool,
    )


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _function_digests() -> dict[str, str]:
    return {_name(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in FUNCTION_FILES}


def _name(file: Path) -> str:
    """Return what a file of functions is known by: its house and its name."""
    return f"{file.parent.name}/{file.name}"


async def _apply_functions(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.execute(_FUNCTION_TABLE)
    rows = await connection.fetch("SELECT file, sha256 FROM schema_functions")
    applied = {row["file"]: row["sha256"] for row in rows}
    for file in FUNCTION_FILES:
        name = _name(file)
        digest = _function_digests()[name]
        if applied.get(name) != digest:
            await connection.execute(file.read_text(encoding="utf-8"))
            await connection.execute(_FUNCTION_RECORD, name, digest)


async def _grant(connection: asyncpg.Connection[asyncpg.Record], role: str) -> None:
    quoted = await connection.fetchval("SELECT quote_ident($1)", role)
    await connection.execute(GRANTS_FILE.read_text(encoding="utf-8").format(role=quoted))


async def _scalar(
    connection: asyncpg.Connection[asyncpg.Record], table: str, query: str, *args: object
) -> Any:
    if await connection.fetchval("SELECT to_regclass($1)", table) is None:
        return None
    return await connection.fetchval(query.format(table=table), *args)
