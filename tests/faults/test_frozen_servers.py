"""R14: PostgreSQL, Valkey or Stripe is frozen. Every probe and every command has an end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from api.framework import idempotency, key_uses
from api.framework.key_uses import KeyUses
from cli import doctor
from migrations.head import HEAD
from sandbox.product import WebProcess
from shared.config import Settings, load
from shared.db import pool as db
from shared.db import start
from shared.events.service import Applier
from shared.idempotency.store import Claimed
from shared.organizations.startup import check_settings
from shared.payments.model import SaleTerms
from shared.schema import store as schema
from tests.fixtures.commands import Command
from tests.fixtures.freezing import Gate, gate
from tests.fixtures.product import (
    WAIT_SECONDS_MAX,
    closed_port,
    environment,
    payment,
    receive,
    until,
)
from worker import drainer as drainer_module
from worker import lease_renewal
from worker.drainer import Drainer
from worker.verifier import Verifier

if TYPE_CHECKING:
    from pathlib import Path

    from shared.db.pool import Pool


async def test_the_probe_of_a_web_process_ends_while_postgresql_is_frozen(
    database_url: str, redis_url: str, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    port = closed_port()
    async with gate(database_url) as postgres:
        found = environment(postgres.url, redis_url) | {"PREPAID_OPERATIONS_PORT": str(port)}
        web = WebProcess(found, tmp_path / "web.log")
        await web.start()
        try:

            async def status(url: str) -> int:
                # Beyond the two seconds of a probe, with room for a busy machine.
                async with client.get(url, timeout=aiohttp.ClientTimeout(10)) as answer:
                    return answer.status

            assert await status(f"{web.url}/readyz") == 200
            postgres.freeze()

            async def not_ready() -> bool:
                return await status(f"{web.url}/readyz") == 503

            await until(not_ready)
            assert await status(f"{web.url}/healthz") == 200
            assert await status(f"http://127.0.0.1:{port}/readyz") == 503
            assert await status(f"http://127.0.0.1:{port}/metrics") == 200
            postgres.thaw()

            async def ready() -> bool:
                return await status(f"{web.url}/readyz") == 200

            await until(ready)
        finally:
            postgres.thaw()
            await web.stop()


async def test_doctor_says_of_each_frozen_server_what_to_do(
    database_url: str, redis_url: str, prepaid: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECK_SECONDS_MAX", 0.5)
    stripe_url = f"http://127.0.0.1:{closed_port()}"
    async with (
        gate(database_url) as postgres,
        gate(redis_url) as valkey,
        gate(stripe_url) as stripe,
    ):
        for server in (postgres, valkey, stripe):
            server.freeze()
        finished = await prepaid(
            "doctor", DATABASE_URL=postgres.url, REDIS_URL=valkey.url, STRIPE_API_BASE=stripe.url
        )
    assert finished.code == 1
    lines = {
        line[6:21].strip(): line[21:] for line in finished.stdout.splitlines() if line[6:21].strip()
    }
    assert list(lines)[:4] == ["settings", "postgres", "schema", "redis"]
    for name, called in (("postgres", "PostgreSQL"), ("redis", "Redis"), ("stripe", "Stripe")):
        assert lines[name].startswith(f"{called} does not answer within 0.5 s: check ")
    assert lines["schema"] == "not checked: PostgreSQL does not answer"
    assert "TimeoutError" not in finished.stdout + finished.stderr


async def test_doctor_says_each_line_as_it_comes(
    prepaid: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that ends doctor leaves the lines of the checks before it."""

    async def well(_: Settings) -> str:
        return "all is well"

    async def broken(_: Settings) -> str:
        raise LookupError

    checks = (("disk", "This machine", well), ("memory", "This machine", broken))
    monkeypatch.setattr(doctor, "_CHECKS", checks)
    finished = await prepaid("doctor")
    assert "LookupError" in finished.stderr
    assert [line.split() for line in finished.stdout.splitlines()][1:] == [
        ["ok", "disk", "all", "is", "well"]
    ]


async def test_nothing_is_said_of_a_check_that_was_left_behind(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECK_SECONDS_MAX", 0.05)
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: said.append(about))
    thawed, ended = asyncio.Event(), asyncio.Event()

    async def frozen(_: Settings) -> str:
        try:
            await thawed.wait()
            raise TimeoutError
        finally:
            ended.set()

    found = load(environment(database_url, redis_url))
    check, answered = await doctor._check("postgres", "PostgreSQL", frozen, found)  # noqa: SLF001
    thawed.set()
    await ended.wait()
    gc.collect()
    assert (check["ok"], answered, said) == (False, False, [])


@pytest.mark.parametrize(
    "command",
    [
        ("events", "list"),
        ("keys", "list"),
        ("ledger", "verify"),
        ("migrate",),
        ("migrate", "status"),
    ],
)
async def test_a_command_says_that_postgresql_does_not_answer(
    database_url: str,
    prepaid: Command,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    monkeypatch.setattr(db, "CONNECT_SECONDS_MAX", 0.2)
    async with gate(database_url) as postgres:
        postgres.freeze()
        finished = await prepaid(*command, DATABASE_URL=postgres.url)
    assert finished.code == 1
    assert finished.stderr.startswith("prepaid: DATABASE_URL: PostgreSQL did not answer in time.")


async def test_a_command_ends_where_postgresql_freezes_during_a_statement(
    database_url: str, prepaid: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "SERVER_SECONDS_MAX", 0.5 - db.STATEMENT_SECONDS_MAX)
    async with gate(database_url) as postgres:
        postgres.freeze_at = b"FROM stripe_events"
        finished = await prepaid("events", "list", DATABASE_URL=postgres.url)
    assert finished.code == 1
    assert finished.stderr.startswith("prepaid: DATABASE_URL: PostgreSQL did not answer in time.")


async def test_a_verification_ends_with_its_worker_while_postgresql_is_frozen(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "CLOSE_SECONDS_MAX", 0.1)
    stop = asyncio.Event()
    async with gate(database_url) as postgres, asyncio.timeout(WAIT_SECONDS_MAX):
        postgres.freeze_at = b"ledger_verifications"
        verifying = asyncio.create_task(Verifier(postgres.url).run(stop))

        async def frozen() -> bool:
            return postgres.is_frozen

        await until(frozen)
        stop.set()
        await verifying


Check = Callable[["Pool"], Coroutine[Any, Any, None]]
CHECKS_AT_A_START: dict[str, tuple[bytes, Check]] = {
    "schema": (b"alembic_version", lambda pool: schema.check_at_start(pool, HEAD, refuse=True)),
    "migration": (b"alembic_version", lambda pool: schema.wait(pool, HEAD, asyncio.Event())),
    "rate": (b"FROM organizations", lambda pool: check_settings(pool, Decimal("0.0000001"))),
}


@pytest.mark.parametrize("check", CHECKS_AT_A_START)
async def test_a_start_goes_on_where_postgresql_freezes_while_it_is_asked(
    database_url: str, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    monkeypatch.setattr(db, "STATEMENT_SECONDS_MAX", 3600)
    monkeypatch.setattr(start, "START_SECONDS_MAX", 0.2)
    freezes_at, ask = CHECKS_AT_A_START[check]
    async with (
        gate(database_url) as postgres,
        db.create_pool(postgres.url, size=1, application_name="test") as pool,
    ):
        postgres.freeze_at = freezes_at
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await ask(pool)
            assert postgres.is_frozen
        finally:
            pool.terminate()  # a connection whose server is frozen does not close


async def write_a_use(pool: Pool, _: Gate) -> None:
    uses = KeyUses(pool, interval_seconds=3600)
    uses.add(UUID(int=1), datetime.now(UTC))
    await uses.write()


async def release_a_key(pool: Pool, _: Gate) -> None:
    claimed = Claimed(UUID(int=1), "k", UUID(int=2), UUID(int=3))
    await idempotency._release(pool, claimed, refused=False)  # noqa: SLF001


async def stop_in_the_middle_of_a_batch(pool: Pool, postgres: Gate) -> None:
    """Lease an event, and stop while the transaction of its batch has no answer."""
    drainer = Drainer(
        pool, Applier(pool, SaleTerms(Decimal(1))), uuid4, lease=timedelta(seconds=0.1)
    )

    async def frozen() -> bool:
        return postgres.is_frozen

    await drainer.start_other_lanes()
    await until(frozen)
    await drainer.close()


Work = Callable[["Pool", Gate], Coroutine[Any, Any, None]]
WORK_WITH_AN_END: dict[str, tuple[bytes, Work]] = {
    "use of a key": (b"FROM api_keys", write_a_use),
    "key of a request": (b"SET locked_until = now()", release_a_key),
    "batch of a worker": (b"error_trace = s.error_trace", stop_in_the_middle_of_a_batch),
}


@pytest.mark.parametrize("work", WORK_WITH_AN_END)
async def test_what_has_a_limit_ends_by_it_where_postgresql_freezes_meanwhile(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    """R14: canceling a statement of a frozen server takes as long as the statement may."""
    monkeypatch.setattr(db, "STATEMENT_SECONDS_MAX", 3600)
    for module, limit in (
        (key_uses, "WRITE_SECONDS_MAX"),
        (idempotency, "END_SECONDS_MAX"),
        (drainer_module, "STOP_SECONDS_MAX"),
        (drainer_module, "RELEASE_SECONDS_MAX"),
        (lease_renewal, "END_SECONDS_MAX"),
    ):
        monkeypatch.setattr(module, limit, 1)
    freezes_at, begin = WORK_WITH_AN_END[work]
    await receive(pool, payment("1"))
    await pool.execute("UPDATE stripe_events SET lane = 'alone'")
    async with (
        gate(database_url) as postgres,
        db.create_pool(postgres.url, size=5, application_name="test") as frozen,
    ):
        await frozen.fetchval("SELECT 1")
        postgres.freeze_at = freezes_at
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await begin(frozen, postgres)
            assert postgres.is_frozen
        finally:
            frozen.terminate()  # a connection whose server is frozen does not close
