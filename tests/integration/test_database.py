"""The pool: what is an outage, what is our own mistake, and how it comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from shared.db.pool import UNAVAILABLE, create_pool
from tests.fixtures.product import closed_port, until

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool


@pytest.mark.parametrize(
    ("statement", "argument"),
    [("SELECT $1::int", "x"), ("SELECT $1::bigint", 2**64), ("SELECT $1::text", "\ud800")],
)
async def test_a_value_that_the_driver_cannot_send_is_a_mistake_not_an_outage(
    connection: Connection, statement: str, argument: Any
) -> None:
    with pytest.raises(Exception, match="invalid input") as raised:
        await connection.fetchval(statement, argument)
    assert not isinstance(raised.value, UNAVAILABLE)


@pytest.mark.parametrize("statement", ["SELECT 1 / 0", "SELECT * FROM nothing", "nonsense"])
async def test_a_statement_that_is_wrong_is_a_mistake_not_an_outage(
    connection: Connection, statement: str
) -> None:
    with pytest.raises(asyncpg.PostgresError) as raised:
        await connection.fetch(statement)
    assert not isinstance(raised.value, UNAVAILABLE)


async def test_a_closed_port_is_an_outage() -> None:
    url = f"postgresql://prepaid@127.0.0.1:{closed_port()}/prepaid"
    async with create_pool(url, size=1, application_name="tests") as pool:
        with pytest.raises(UNAVAILABLE):
            await pool.fetchval("SELECT 1")


async def test_a_session_that_ends_under_a_statement_is_an_outage_and_the_pool_recovers(
    pool: Pool,
) -> None:
    async with pool.acquire() as victim, pool.acquire() as killer:
        pid = await victim.fetchval("SELECT pg_backend_pid()")
        sleeping = asyncio.create_task(victim.fetchval("SELECT pg_sleep(30)"))

        async def asleep() -> bool:
            return bool(
                await killer.fetchval(
                    "SELECT state = 'active' FROM pg_stat_activity WHERE pid = $1", pid
                )
            )

        await until(asleep)
        await killer.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(UNAVAILABLE):
            await sleeping
    assert await pool.fetchval("SELECT 1") == 1


async def test_a_deadlock_and_a_lock_that_does_not_come_are_outages_to_try_again(
    pool: Pool,
) -> None:
    async with pool.acquire() as one, pool.acquire() as other:
        await one.execute("CREATE TABLE first (); CREATE TABLE second ()")
        async with one.transaction():
            await one.execute("LOCK TABLE first")
            with pytest.raises(UNAVAILABLE):
                await other.execute("BEGIN; SET LOCAL lock_timeout = '1ms'; LOCK TABLE first")
            await other.execute("ROLLBACK; BEGIN; LOCK TABLE second")
            crossed = one.execute("LOCK TABLE second"), other.execute("LOCK TABLE first")
            done = await asyncio.gather(*crossed, return_exceptions=True)
            (refused,) = [found for found in done if isinstance(found, Exception)]
            assert isinstance(refused, asyncpg.DeadlockDetectedError)
            assert isinstance(refused, UNAVAILABLE)
            await other.execute("ROLLBACK")


async def test_a_connection_that_comes_back_to_the_pool_costs_no_statement(pool: Pool) -> None:
    seen: list[str] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(lambda told: seen.append(told.query))
        await connection.fetchval("SELECT 1")
    await asyncio.sleep(0)
    assert seen == ["SELECT 1"]


async def test_a_transaction_that_was_left_open_ends_when_its_connection_comes_back(
    database_url: str,
) -> None:
    async with create_pool(database_url, size=1, application_name="tests") as pool:
        async with pool.acquire() as connection:
            await connection.execute("BEGIN; CREATE TABLE left_open ()")
        assert await pool.fetchval("SELECT to_regclass('left_open')") is None


async def test_a_connection_has_the_limits_that_keep_one_stuck_client_from_stopping_all(
    connection: Connection,
) -> None:
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        assert await connection.fetchval(f"SHOW {name}") not in {"0", ""}
    assert await connection.fetchval("SHOW timezone") == "UTC"


@pytest.mark.parametrize(
    "document", [{}, {"a": [1, None, "ä\n"]}, [], "text", 1, None, {"deep": {"er": True}}]
)
async def test_jsonb_goes_in_and_out_as_it_is(connection: Connection, document: Any) -> None:
    assert await connection.fetchval("SELECT $1::jsonb", document) == document
