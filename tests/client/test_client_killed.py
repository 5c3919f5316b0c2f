"""A caller that is killed with SIGKILL: nothing is charged twice, and its hold comes back."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prepaid_client import AsyncClient

from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.faulty_proxy import FaultyProxy
from tests.fixtures.ledger import make_due
from worker.expirer import Expirer

if TYPE_CHECKING:
    from shared.db.pool import Pool

# Reserves, records, says which hold it has, and waits; a line lets it end as it should.
CALLER = """
import asyncio, json, sys
from prepaid_client import AsyncClient

async def main(url, key):
    async with (
        AsyncClient(url, key) as client,
        client.reserve("acme", amount=10, transaction_id="chat-1") as call,
    ):
        call.record(amount=4)
        print(json.dumps(call.hold["id"]), flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main(*sys.argv[1:]))
"""


async def start(url: str, key: str) -> tuple[asyncio.subprocess.Process, str]:
    """Start a caller; return it and its hold."""
    caller = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CALLER, url, key,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert caller.stdout is not None
    hold_id: str = json.loads(await caller.stdout.readline())
    return caller, hold_id


async def numbers(client: AsyncClient) -> tuple[Any, int]:
    found = await client.balance("acme")
    return found["balance"], found["availableCreditsDecimillicents"] or 0


async def test_the_hold_of_a_killed_caller_is_charged_once_or_comes_back(
    api_client: ApiClient,
    proxy: FaultyProxy,
    prepaid_async: AsyncClient,
    funded: Organization,
    pool: Pool,
) -> None:
    assert api_client.key is not None
    caller, hold_id = await start(proxy.url, api_client.key)
    caller.kill()
    await caller.wait()
    assert await numbers(prepaid_async) == (100, 900_000_000)
    # Its successor, with the same transactionId, has the same hold, and charges it once.
    successor, same = await start(proxy.url, api_client.key)
    assert same == hold_id
    await successor.communicate(b"\n")
    assert await numbers(prepaid_async) == (96, 960_000_000)


async def test_the_hold_of_a_killed_caller_expires(
    api_client: ApiClient,
    proxy: FaultyProxy,
    prepaid_async: AsyncClient,
    funded: Organization,
    pool: Pool,
) -> None:
    assert api_client.key is not None
    stop = proxy.stop("/capture")
    caller, hold_id = await start(proxy.url, api_client.key)
    assert caller.stdin is not None
    caller.stdin.write(b"\n")
    await stop.arrived.wait()  # it dies before the API has its capture
    caller.kill()
    await caller.wait()
    await make_due(pool, "holds", UUID(hold_id))
    await Expirer(pool).expire()
    assert await numbers(prepaid_async) == (100, 1_000_000_000)
    assert (await prepaid_async.get_hold("acme", hold_id))["status"] == "expired"
    stop.go.set()
