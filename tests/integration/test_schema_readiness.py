"""A process is ready only with a schema that is not older than its release needs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
import pytest

from cli.checks import postgres
from cli.checks.model import Caution
from migrations.head import HEAD
from migrations.runner import migrate, status
from sandbox.product import ProductProcess, WebProcess
from shared.errors import ConflictError
from shared.schema import store
from tests.fixtures.product import closed_port, environment, settings, until

if TYPE_CHECKING:
    from shared.db.pool import Pool

OLDER = "0031"
NEWER = "9001"
BEHIND = f"the schema is at {OLDER}, this release needs {HEAD}: run prepaid migrate"


async def set_revision(database_url: str, revision: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE alembic_version SET version_num = $1", revision)
    finally:
        await connection.close()


async def heartbeats(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        found: int = await connection.fetchval("SELECT count(*) FROM worker_heartbeats")
    finally:
        await connection.close()
    return found


async def ready(client: aiohttp.ClientSession, url: str) -> tuple[int, dict[str, str]]:
    async with client.get(f"{url}/readyz") as response:
        body = await response.json()
        return response.status, body.get("checks", {})


async def test_web_and_worker_on_an_older_schema_are_not_ready_until_it_is_migrated(
    database_url: str, redis_url: str, tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    await set_revision(database_url, OLDER)
    ports = [closed_port(), closed_port()]
    variables = environment(database_url, redis_url)
    web = WebProcess(variables | {"PREPAID_OPERATIONS_PORT": f"{ports[0]}"}, tmp_path / "web.log")
    worker = ProductProcess(
        ["worker"], variables | {"PREPAID_WORKER_PORT": f"{ports[1]}"}, tmp_path / "worker.log"
    )
    await web.start()
    await worker.start(pipe_stdout=True)
    assert await worker.ready_line() == {"ready": True}
    operators = [f"http://127.0.0.1:{port}" for port in ports]

    assert await ready(client, web.url) == (503, {})
    for url in operators:
        answered, checks = await ready(client, url)
        assert (answered, checks["postgres"], checks["schema"]) == (503, "ok", BEHIND)
    for process in (web, worker):
        found = [line for line in process.log_lines() if line["event"] == "schema.behind"]
        reasons = [line["reason"] for line in found]
        assert reasons == [BEHIND]
    assert await heartbeats(database_url) == 0  # the worker waits for the migration

    await set_revision(database_url, NEWER)  # as a later release does

    async def all_ready() -> bool:
        answers = [await ready(client, url) for url in (web.url, *operators)]
        # No worker has had a heartbeat at first.
        return [status for status, _ in answers] == [200, 200, 200]

    await until(all_ready)
    assert await web.stop() == 0
    assert await worker.stop() == 0


async def test_a_restart_in_turn_before_the_migration_leaves_the_old_processes_running(
    database_url: str, redis_url: str, tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    webs = WebProcess(environment(database_url, redis_url), tmp_path / "web.log", processes=2)
    await webs.start()
    await set_revision(database_url, OLDER)  # so that this release is a later one
    os.kill(webs.pid, signal.SIGHUP)
    failed = await webs.wait_for_log("serve.restart_failed")
    assert (failed["process"], failed["code"]) == (1, 1)
    assert BEHIND in webs.log_tail()
    async with client.get(f"{webs.url}/healthz") as response:
        assert response.status == 200
    os.kill(webs.pid, signal.SIGINT)
    assert await webs.wait() == 0
    ended = [line for line in webs.log_lines() if line["event"] == "serve.process_ended"]
    assert ended == []


async def test_a_database_without_a_schema_is_named_so(pool: Pool, superuser_url: str) -> None:
    connection = await asyncpg.connect(superuser_url)
    await connection.execute("DROP TABLE alembic_version")
    await connection.close()
    with pytest.raises(store.SchemaError, match="has no schema"):
        await store.check(pool, HEAD)


async def test_doctor_warns_of_a_newer_schema_and_migrate_of_the_older_release_refuses_it(
    database_url: str,
) -> None:
    await set_revision(database_url, NEWER)
    found = await postgres.check_schema(settings(DATABASE_URL=database_url))
    assert isinstance(found, Caution)
    assert f"{NEWER}, of a later release than this one ({HEAD})" in found.detail
    assert (await status(database_url))["newer"]
    with pytest.raises(ConflictError, match="run prepaid migrate of that release"):
        await migrate(database_url)
