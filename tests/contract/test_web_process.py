"""A real `prepaid serve` process: health, metrics, its log and its end."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from sandbox.product import WebProcess
from sandbox.signed_events import signature
from tests.fixtures.product import (
    SECRET_NEW,
    SECRET_OLD,
    STRIPE_API_KEY,
    closed_port,
    environment,
    event_states,
    payment,
    until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from shared.db.pool import Pool

PATH = "/v1/webhooks/stripe"
CARD = "4242424242424242"
CLIENT_SECRET = "pi_1_secret_abcdefghijklmnop"

pytestmark = pytest.mark.usefixtures("executed_processes")  # the start is part of the test


async def deliver(
    client: aiohttp.ClientSession, web: WebProcess, body: bytes, header: str | None = None
) -> Any:
    headers = {"Stripe-Signature": signature(body, SECRET_NEW) if header is None else header}
    async with client.post(web.url + PATH, data=body, headers=headers) as response:
        return response.status, await response.json()


async def test_a_web_process_is_healthy_stores_events_and_stops_on_sigterm(
    web: WebProcess, client: aiohttp.ClientSession, pool: Pool
) -> None:
    status, answer = await deliver(client, web, payment("1"))
    assert (status, answer) == (200, {"received": True, "eventId": "evt_1", "duplicate": False})
    for path in ("/healthz", "/readyz"):
        async with client.get(web.url + path) as response:
            assert response.status == 200
            assert response.headers["X-Request-Id"]
    assert await web.stop() == 0
    assert await event_states(pool) == {"evt_1": "received"}


async def test_nothing_secret_reaches_the_log(
    web: WebProcess, client: aiohttp.ClientSession
) -> None:
    secretive = payment("1", description=f"card {CARD}", client_secret=CLIENT_SECRET)
    good = signature(secretive, SECRET_NEW)
    assert (await deliver(client, web, secretive, good))[0] == 200
    assert (await deliver(client, web, secretive, good[:-1]))[0] == 400
    assert (await deliver(client, web, secretive, SECRET_OLD))[0] == 400
    assert (await deliver(client, web, secretive[:-5], good))[0] == 400
    assert (await deliver(client, web, CARD.encode(), good))[0] == 400
    async with client.get(f"{web.url}/?key={STRIPE_API_KEY}&card={CARD}") as response:
        assert response.status == 404
    await web.stop()
    log = web.log_file.read_text(encoding="utf-8")
    assert "evt_1" in log
    hidden = [CARD, CLIENT_SECRET, SECRET_NEW, SECRET_OLD, STRIPE_API_KEY, good.split("v1=")[1]]
    assert [text for text in hidden if text in log] == []


async def test_the_log_is_a_json_object_a_line_and_joins_a_delivery_by_its_request_id(
    web: WebProcess, client: aiohttp.ClientSession
) -> None:
    await deliver(client, web, payment("2"), "")
    body = payment("1")
    headers = {"Stripe-Signature": signature(body, SECRET_NEW), "X-Request-Id": "joined-1"}
    async with client.post(web.url + PATH, data=body, headers=headers) as response:
        assert response.status == 200
    await web.stop()
    assert any("joined-1" in str(line) and "evt_1" in str(line) for line in web.log_lines())
    lines = web.log_file.read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert all({"timestamp", "level", "event"} <= set(record) for record in records)


async def test_the_promised_metrics_count_deliveries(
    database_url: str, redis_url: str, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    port = closed_port()
    found = environment(database_url, redis_url) | {"PREPAID_OPERATIONS_PORT": str(port)}
    web = WebProcess(found, tmp_path / "web.log")
    await web.start()
    body = payment("1")
    await deliver(client, web, body)
    await deliver(client, web, body)
    await deliver(client, web, body, "t=1,v1=0")
    async with client.get(f"{web.url}/metrics") as response:
        assert response.status == 404
    async with client.get(f"http://127.0.0.1:{port}/metrics") as response:
        text = await response.text()
    await web.stop()
    for result in ("received", "duplicate", "refused"):
        assert f'prepaid_webhook_events_total{{result="{result}"}} 1.0' in text
    assert "prepaid_webhook_ack_seconds_count 3.0" in text
    assert "prepaid_workers 0.0" in text


async def test_without_redis_a_web_process_is_ready_and_without_postgresql_it_is_not(
    database_url: str, redis_url: str, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    away = f"127.0.0.1:{closed_port()}"
    without_redis = environment(database_url, f"redis://{away}/0")
    without_postgresql = environment(f"postgresql://prepaid@{away}/prepaid", redis_url)
    for number, (env, expected) in enumerate([(without_redis, 200), (without_postgresql, 503)]):
        web = WebProcess(env, tmp_path / f"{number}.log")
        await web.start()
        try:
            async with client.get(f"{web.url}/readyz") as response:
                assert response.status == expected
            async with client.get(f"{web.url}/healthz") as response:
                assert response.status == 200
            status, _ = await deliver(client, web, payment("1"))
            assert status == expected
        finally:
            await web.stop()


async def test_a_delivery_under_way_is_answered_before_the_process_stops(
    web: WebProcess, client: aiohttp.ClientSession, pool: Pool
) -> None:
    async with pool.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE stripe_events IN ACCESS EXCLUSIVE MODE")
        delivery = asyncio.create_task(deliver(client, web, payment("1")))
        await waiting_for_a_lock(blocker)
        stopping = asyncio.create_task(web.stop())
        await until(lambda: refuses_connections(web))
    status, _ = await delivery
    assert status == 200
    assert await stopping == 0
    assert await event_states(pool) == {"evt_1": "received"}


async def waiting_for_a_lock(connection: Any) -> None:
    async def waits() -> bool:
        return bool(
            await connection.fetchval(
                "SELECT count(*) FROM pg_locks AS l"
                " INNER JOIN pg_database AS d ON l.database = d.oid"
                " WHERE NOT l.granted AND d.datname = current_database()"
            )
        )

    await until(waits)


async def refuses_connections(web: WebProcess) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", int(web.url.rsplit(":", 1)[1]))
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def test_a_web_process_starts_serves_and_stops_without_a_warning(
    database_url: str, redis_url: str, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    env = environment(database_url, redis_url) | {"PYTHONWARNINGS": "always"}
    web = WebProcess(env, tmp_path / "web.log")
    await web.start()
    await deliver(client, web, payment("1"))
    await web.stop()
    log = web.log_file.read_text(encoding="utf-8")
    assert [line for line in log.splitlines() if not line.startswith("{")] == []
