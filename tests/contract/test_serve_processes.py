"""`prepaid serve --processes 2`: two processes on one port, replaced without losing a request."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from sandbox.product import ProductProcess, WebProcess
from sandbox.signed_events import signature
from shared.errors import ConfigError
from shared.http import server
from shared.organizations import service as organizations
from tests.fixtures.product import (
    SECRET_NEW,
    closed_port,
    environment,
    event_states,
    payment,
    until,
)

if TYPE_CHECKING:
    from shared.db.pool import Pool

# For the next request on each open connection; over sooner where none is open.
DRAIN_SECONDS = 30
PATH = "/v1/webhooks/stripe"
TOKEN = "a-token-of-operators"
DELIVERIES = re.compile(
    r'prepaid_webhook_events_total\{process="(\d)",result="received"\} (\d+)\.0'
)


@pytest.fixture
async def webs(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[WebProcess]:
    env = environment(database_url, redis_url) | {
        "PREPAID_OPERATIONS_TOKEN": TOKEN,
        "PREPAID_DRAIN_SECONDS": str(DRAIN_SECONDS),
    }
    web = WebProcess(env, tmp_path / "web.log", processes=2)
    try:
        await web.start()
        yield web
    finally:
        await stop_at_once(web)


async def stop_at_once(web: WebProcess) -> int:
    if web.is_running:
        os.kill(web.pid, signal.SIGINT)
    return await web.wait()


def started(web: WebProcess) -> list[tuple[int, int]]:
    """Return number and process id of each process that was started, in order."""
    lines = [line for line in web.log_lines() if line["event"] == "serve.process_started"]
    return [(line["process"], line["pid"]) for line in lines]


def running(pids: Iterable[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


async def deliver(web: WebProcess, *names: str) -> tuple[str, ...]:
    """Deliver each event on a connection of its own; return their names."""

    async def one(name: str) -> None:
        body = payment(name)
        headers = {"Stripe-Signature": signature(body, SECRET_NEW)}
        async with (
            aiohttp.ClientSession() as session,
            session.post(web.url + PATH, data=body, headers=headers) as response,
        ):
            assert response.status == 200, await response.text()

    await asyncio.gather(*map(one, names))
    return names


async def scrape(web: WebProcess) -> str:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
        session.get(f"{web.url}/metrics") as response,
    ):
        assert response.status == 200
        return await response.text()


async def is_scraped(web: WebProcess, number: int) -> bool:
    return f'process_resident_memory_bytes{{process="{number}"}}' in await scrape(web)


async def test_both_processes_serve_the_metrics_are_those_of_both_and_a_killed_one_loses_no_event(
    webs: WebProcess, pool: Pool
) -> None:
    names = (f"both{n}" for n in itertools.count())
    sent: list[str] = []
    counts: dict[str, int] = {}

    async def both_have_served() -> bool:
        nonlocal counts
        sent.extend(await deliver(webs, *itertools.islice(names, 16)))
        counts = {found[1]: int(found[2]) for found in DELIVERIES.finditer(await scrape(webs))}
        return set(counts) == {"1", "2"}

    await until(both_have_served)
    assert sum(counts.values()) == len(sent)
    families = [line for line in (await scrape(webs)).splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))

    _, (_, second) = started(webs)
    os.kill(second, signal.SIGKILL)
    sent += await deliver(webs, *itertools.islice(names, 16))
    assert set(await event_states(pool)) == {f"evt_{name}" for name in sent}

    ended = await webs.wait_for_log("serve.process_ended")
    assert (ended["process"], ended["code"]) == (2, -signal.SIGKILL)
    await until(lambda: is_scraped(webs, 2))
    assert [number for number, _ in started(webs)] == [1, 2, 2]


async def test_sighup_replaces_each_process_without_a_failed_request_and_sigint_ends_all(
    webs: WebProcess,
) -> None:
    restarted = asyncio.Event()

    async def lane(number: int) -> None:
        """Deliver on one connection, which is opened again when a process closes it."""
        async with aiohttp.ClientSession() as session:
            for turn in itertools.count():
                body = payment(f"roll{number}-{turn}")
                headers = {"Stripe-Signature": signature(body, SECRET_NEW)}
                async with session.post(webs.url + PATH, data=body, headers=headers) as response:
                    assert response.status == 200
                async with session.get(f"{webs.url}/readyz") as response:
                    assert response.status == 200
                if restarted.is_set():
                    break

    async with asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(lane(number))
        for pid in [*(pid for _, pid in started(webs)), webs.pid]:  # as `systemctl kill` does
            os.kill(pid, signal.SIGHUP)
        await webs.wait_for_log("serve.stopped")  # the first
        await webs.wait_for_log("serve.restarted")
        restarted.set()
    assert [number for number, _ in started(webs)] == [1, 2, 1, 2]
    stops = [line for line in webs.log_lines() if line["event"] == "serve.stopped"]
    assert [line["process"] for line in stops] == [1, 2]
    assert await stop_at_once(webs) == 0
    assert running(pid for _, pid in started(webs)) == []


async def test_a_replacement_that_is_killed_while_its_predecessor_drains_is_started_again(
    webs: WebProcess,
) -> None:
    port = int(webs.url.rsplit(":", 1)[1])
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(64)]
    old = started(webs)
    os.kill(webs.pid, signal.SIGHUP)
    await webs.wait_for_log("serve.draining")  # the first, for as long as connections are open
    replacement = started(webs)[2]
    assert replacement[0] == 1
    os.kill(replacement[1], signal.SIGKILL)

    async def is_started_again() -> bool:
        return len(started(webs)) == 4

    await until(is_started_again)
    assert started(webs)[3][0] == 1
    assert running([old[0][1]]) == [old[0][1]]
    for _, writer in silent:
        writer.close()
    failed = await webs.wait_for_log("serve.restart_failed")  # the second is left as it is
    assert (failed["process"], failed["code"]) == (1, -signal.SIGKILL)
    assert running(pid for _, pid in old) == [old[1][1]]
    await deliver(webs, "again")
    assert await stop_at_once(webs) == 0
    assert running(pid for _, pid in started(webs)) == []


async def test_processes_end_when_their_supervisor_is_killed(webs: WebProcess) -> None:
    webs.kill()
    await webs.wait()

    async def none_is_left() -> bool:
        return running(pid for _, pid in started(webs)) == []

    await until(none_is_left)


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_one_port_for_the_service_and_for_operators_is_refused_in_one_line(
    database_url: str, redis_url: str, tmp_path: Path, processes: str
) -> None:
    port = str(closed_port())
    refused = ProductProcess(
        ["serve", "--processes", processes, "--port", port],
        environment(database_url, redis_url) | {"PREPAID_OPERATIONS_PORT": port},
        tmp_path / "refused.log",
    )
    await refused.start()
    assert await refused.wait() == 1
    assert f"PREPAID_OPERATIONS_PORT: is {port}, the port of the service." in refused.log_tail()
    assert "Traceback" not in refused.log_tail()


async def test_a_port_that_others_listen_on_since_it_was_bound_is_a_wrong_setting() -> None:
    sockets = await server.bind("127.0.0.1", 0)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(sockets[0].getsockname())
        other.listen()
        with pytest.raises(ConfigError, match=r"PREPAID_WORKER_PORT.* is in use on 127\.0\.0\.1"):
            await server.start(server.create_app([]), sockets, port_variable="PREPAID_WORKER_PORT")
    sockets[0].close()


async def test_what_a_process_refuses_at_its_start_is_printed_once_with_exit_code_1(
    database_url: str, redis_url: str, pool: Pool, tmp_path: Path
) -> None:
    async with pool.acquire() as connection:
        await organizations.create(connection, slug="k", name="K", currency="kwd")
    refused = ProductProcess(
        ["serve", "--processes", "2", "--port", "0"],
        environment(database_url, redis_url) | {"PREPAID_CREDITS_PER_UNIT": "0.0000001"},
        tmp_path / "refused.log",
    )
    await refused.start()
    assert await refused.wait() == 1
    assert refused.log_tail().count("PREPAID_CREDITS_PER_UNIT") == 1
