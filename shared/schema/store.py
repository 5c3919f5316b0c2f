"""The schema that the database has, against the one that this release needs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
import structlog

from shared.db.pool import UNAVAILABLE
from shared.db.queries import beside
from shared.db.start import asked_at_start
from shared.errors import NotReadyError
from shared.schema import rules

if TYPE_CHECKING:
    from shared.db.pool import Pool

QUERIES = beside(__file__)
LOOK_SECONDS = 1.0

log = structlog.get_logger()


class SchemaError(NotReadyError):
    """The schema is older than this release needs."""


async def check(pool: Pool, needed: str) -> None:
    """Raise SchemaError where the schema is older than the migration that is needed."""
    try:
        current = await pool.fetchval(QUERIES.revision)
    except asyncpg.UndefinedTableError:
        current = None
    problem = rules.problem(current, needed)
    if problem is not None:
        raise SchemaError(problem)


async def check_at_start(pool: Pool, needed: str, *, refuse: bool = False) -> None:
    """Log that the schema is too old, or raise SchemaError where a process may `refuse` to start.

    Nothing is known of it while PostgreSQL is unavailable, or does not answer in time.
    """
    try:
        await asked_at_start(check(pool, needed))
    except SchemaError as error:
        if refuse:
            raise
        log.error("schema.behind", reason=error.detail)  # noqa: TRY400 - the reason says it all
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        log.warning("schema.not_checked", error=repr(error))


async def wait(pool: Pool, needed: str, stop: asyncio.Event) -> None:
    """Return once the schema is not older than this release needs, or at `stop`.

    Returns too where PostgreSQL is unavailable, or does not answer in time: whoever works then
    reports that.
    """
    while not stop.is_set():
        try:
            return await asked_at_start(check(pool, needed))
        except SchemaError:
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
        except (*UNAVAILABLE, asyncpg.PostgresError):
            return None
    return None
