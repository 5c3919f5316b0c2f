"""REDIS_URL with TLS: wakeups go through it, and a certificate that is not right is refused.

The embedded Valkey speaks no TLS: it stands behind an endpoint that does, as managed ones do.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from cli.checks.model import DoctorError
from cli.checks.redis import check_redis
from sandbox.product import WebProcess, WorkerProcess
from shared.queue.connection import QUEUE_NAME, connect
from tests.fixtures.freezing import gate
from tests.fixtures.paid_purchases import applied, credited_once, deliver_paid, open_purchases
from tests.fixtures.product import environment, settings, until

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

CERTIFICATES = Path(__file__).parents[1] / "data" / "tls"


@asynccontextmanager
async def secured(redis_url: str, certificate: str, authority: str) -> AsyncIterator[str]:
    """Put TLS in front of Valkey; give the REDIS_URL of a client that trusts this authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / certificate)
    async with gate(redis_url, tls=context) as endpoint:
        url = endpoint.url.replace("redis://", "rediss://")
        yield f"{url}?ssl_ca_certs={CERTIFICATES / authority}"


async def test_wakeups_go_from_web_to_worker_through_tls(
    pool: Pool,
    database_url: str,
    redis_url: str,
    organization: Organization,
    client: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    await open_purchases(pool, organization.id, ["tls"])
    plain = connect(redis_url)
    async with secured(redis_url, "loopback.pem", "ca.pem") as url:
        variables = environment(database_url, url)
        web = WebProcess(variables, tmp_path / "web.log")
        worker = WorkerProcess(variables, tmp_path / "worker.log")

        async def is_queued() -> bool:
            return bool(await plain.zcard(QUEUE_NAME))

        async def is_taken() -> bool:
            return not await plain.zcard(QUEUE_NAME) and bool(await applied(pool))

        try:
            await web.start()
            await deliver_paid(client, web.url, organization.id, ["tls"])
            await until(is_queued)
            await worker.start()
            await until(is_taken)
        finally:
            await plain.aclose(close_connection_pool=True)
            await worker.stop()
            await web.stop()
    for process in (web, worker):
        assert "redis.unavailable" not in process.log_tail()
    await credited_once(pool, 1)


@pytest.mark.parametrize(
    ("certificate", "authority"),
    [("loopback.pem", "other_ca.pem"), ("elsewhere.pem", "ca.pem")],
    ids=["another authority", "another host"],
)
async def test_doctor_refuses_a_wrong_certificate_and_names_redis_url(
    redis_url: str, certificate: str, authority: str
) -> None:
    async with secured(redis_url, certificate, authority) as url:
        with pytest.raises(DoctorError, match="certificate of Redis is refused") as refused:
            await check_redis(settings(REDIS_URL=url))
    assert "REDIS_URL" in str(refused.value.fix)


async def test_processes_say_once_that_a_certificate_is_refused_and_apply_events_without_redis(
    pool: Pool,
    database_url: str,
    redis_url: str,
    organization: Organization,
    client: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    await open_purchases(pool, organization.id, ["tls"])
    async with secured(redis_url, "loopback.pem", "other_ca.pem") as url:
        variables = environment(database_url, url)
        web = WebProcess(variables, tmp_path / "web.log")
        worker = WorkerProcess(variables, tmp_path / "worker.log")

        async def is_applied() -> bool:
            return bool(await applied(pool))

        try:
            await web.start()
            await worker.start()
            await deliver_paid(client, web.url, organization.id, ["tls"])
            await until(is_applied)
            for process in (web, worker):
                await process.wait_for_log("redis.unavailable")
        finally:
            await worker.stop()
            await web.stop()
    for process in (web, worker):
        (line,) = [each for each in process.log_lines() if each["event"] == "redis.unavailable"]
        assert "REDIS_URL" in line["fix"]
    await credited_once(pool, 1)
