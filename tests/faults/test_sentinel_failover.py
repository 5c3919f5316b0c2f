"""The master of Redis is killed and its replica promoted: events go on, and wakeups with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from sandbox.product import WebProcess, WorkerProcess
from tests.fixtures.paid_purchases import applied, credited_once, deliver_paid, open_purchases
from tests.fixtures.product import environment, until
from tests.fixtures.sentinels import Valkey, watched

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

BATCH = 20
EVENTS_MAX = 5_000


async def are_applied(pool: Pool, names: Sequence[str]) -> None:
    async def all_applied() -> bool:
        return {f"evt_{name}" for name in names} <= await applied(pool)

    await until(all_applied)


async def calls(server: Valkey, command: str) -> int:
    """Return how often a server has run a command since its statistics were reset."""
    found = (await server.command("INFO", "commandstats")).get(f"cmdstat_{command}", {"calls": 0})
    return int(found["calls"])


async def test_events_are_applied_through_a_failover_and_the_new_master_wakes_the_worker(
    pool: Pool,
    database_url: str,
    organization: Organization,
    client: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    names = [f"failover{number}" for number in range(EVENTS_MAX)]
    await open_purchases(pool, organization.id, names)
    following = iter(names[2 * BATCH :])
    async with watched(tmp_path) as valkey:
        variables = environment(database_url, valkey.url)
        web = WebProcess(variables, tmp_path / "web.log")
        worker = WorkerProcess(variables, tmp_path / "worker.log")
        try:
            await web.start()
            await worker.start()
            await deliver_paid(client, web.url, organization.id, names[:BATCH])
            await are_applied(pool, names[:BATCH])

            await valkey.master.kill()
            await deliver_paid(client, web.url, organization.id, names[BATCH : 2 * BATCH])
            await are_applied(pool, names[: 2 * BATCH])

            await valkey.promoted()
            await valkey.replica.command("CONFIG", "RESETSTAT")

            async def wakes() -> bool:
                await deliver_paid(client, web.url, organization.id, [next(following)])
                sent, taken = [await calls(valkey.replica, name) for name in ("zadd", "zrem")]
                return sent > 0 and taken > 0

            await until(wakes)
            delivered = names[: -len(list(following))]
            await are_applied(pool, delivered)
        finally:
            assert await worker.stop() in (0, None)
            assert await web.stop() in (0, None)
    await credited_once(pool, len(delivered))
