"""A worker that stops waits for no statement of its upkeep: each is canceled and rolled back."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from shared.config import load
from shared.db.pool import create_pool
from tests.fixtures.product import environment, until
from worker.main import upkeep

if TYPE_CHECKING:
    from shared.db.pool import Pool

TABLES = """
SELECT string_agg(format('%I', c.relname), ', ')
FROM pg_class AS c
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
"""
# The verifier's session has another role: pg_stat_activity does not show what it waits for.
WAITING = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"


async def test_no_loop_of_the_upkeep_waits_for_its_statement_when_the_worker_stops(
    pool: Pool, database_url: str, redis_url: str
) -> None:
    """The statements wait for locked tables; as long, a check of a large account may take."""
    settings = load(environment(database_url, redis_url))
    stop = asyncio.Event()

    async def waiting(count: int) -> bool:
        found: int = await pool.fetchval(WAITING)
        return found == count

    size = len(upkeep(settings, pool))
    async with (
        create_pool(database_url, size=size, application_name="prepaid-worker") as own,
        pool.acquire() as connection,
        connection.transaction(),
    ):
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.execute(f"LOCK TABLE {await connection.fetchval(TABLES)}")
        with capture_logs() as lines:
            async with asyncio.TaskGroup() as loops:
                for run in upkeep(settings, own):
                    loops.create_task(run(stop))
                await until(partial(waiting, size))
                stop.set()
        assert lines == []
        await until(partial(waiting, 0))
