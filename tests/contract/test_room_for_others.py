"""Whoever asks for much, or knows no key, leaves connections for debits and webhooks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from api import app, keys
from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.product import POOL_SIZE, connections, until

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

LIST = "/api/credit-transactions/list/"


async def are_waiting(connection: Connection, number: int) -> bool:
    """Whether so many others, or more, wait for a lock of this database."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM pg_locks AS l INNER JOIN pg_database AS d ON l.database = d.oid"
        " WHERE d.datname = current_database() AND NOT l.granted"
    )
    return found >= number


async def test_keys_that_nobody_gave_out_take_few_connections_and_are_remembered(
    api_client: ApiClient, pool: Pool
) -> None:
    made_up = [api_client.with_key(f"ppk_{number:040}") for number in range(40)]
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE api_keys")
        asking = [asyncio.create_task(c.get("/v1/organizations")) for c in made_up]
        await until(lambda: are_waiting(connection, 1))
        async with connections(pool, POOL_SIZE - 1 - keys.LOOK_UPS_AT_ONCE_MAX):
            assert await are_waiting(connection, 1)
    assert {answer.status for answer in await asyncio.gather(*asking)} == {401}
    async with connections(pool, POOL_SIZE):
        assert {(await c.get("/v1/organizations")).status for c in made_up} == {401}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (LIST, {"filters": {"description": {"operator": "contains", "value": ["x"]}}}),
        (LIST, None),
        ("/api/v1/org/acme/credits/transactions?transaction_type=web_search", None),
    ],
)
async def test_searches_wait_for_each_other_and_leave_connections_for_the_rest(
    api_client: ApiClient, organization: Organization, pool: Pool, path: str, body: Any
) -> None:
    method = "GET" if body is None else "POST"
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE credit_transactions, accounts")
        asking = [asyncio.create_task(api_client.call(method, path, body)) for _ in range(20)]
        await until(lambda: are_waiting(connection, app.SEARCHES_AT_ONCE_MAX))
        for _ in range(3):
            assert (await api_client.get("/v1/billing/acme/holds")).status == 200
        assert not await are_waiting(connection, app.SEARCHES_AT_ONCE_MAX + 1)
    assert {answer.status for answer in await asyncio.gather(*asking)} == {200}
