"""REDIS_URL names a master by its Sentinels: wakeups reach it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from sandbox.binaries import valkey_binary
from shared.errors import ConfigError
from shared.queue.connection import QUEUE_NAME, connect
from shared.queue.wakeup import Wakeup
from shared.sentinel_address import parse
from tests.fixtures.product import closed_port, settings, until


async def start(folder: Path, port: int, *lines: str, mode: str = "") -> asyncio.subprocess.Process:
    file = folder / f"{port}.conf"
    text = ["bind 127.0.0.1", f"port {port}", f"dir {folder}", 'save ""', *lines, ""]
    file.write_text("\n".join(text), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        str(valkey_binary()), str(file), *([mode] if mode else []),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    client = Redis(port=port, password=None if mode else "secret")

    async def answers() -> bool:
        try:
            return bool(await client.ping())
        except RedisConnectionError:
            return False

    await until(answers)
    await client.aclose()
    return process


async def test_wakeups_go_to_the_master_that_the_sentinels_name(tmp_path: Path) -> None:
    port, watcher = closed_port(), closed_port()
    server = await start(tmp_path, port, "requirepass secret")
    watching = await start(
        tmp_path, watcher,
        f"sentinel monitor prepaid 127.0.0.1 {port} 1", "sentinel auth-pass prepaid secret",
        mode="--sentinel",
    )  # fmt: skip
    url = f"redis+sentinel://:secret@127.0.0.1:{closed_port()},127.0.0.1:{watcher}/prepaid/0"
    client = connect(settings(REDIS_URL=url).redis_url)
    try:
        wakeup = Wakeup(client)
        wakeup.send()
        await wakeup.close()
        assert await client.zcard(QUEUE_NAME) == 1
    finally:
        await client.aclose(close_connection_pool=True)
        for process in (watching, server):
            process.kill()
            await process.wait()


def test_an_address_of_sentinels_is_read() -> None:
    found = parse("rediss+sentinel://:p%40ss@one,two:26380/main/3")
    assert found.hosts == (("one", 26379), ("two", 26380))
    assert (found.master, found.database, found.password, found.tls) == ("main", 3, "p@ss", True)


@pytest.mark.parametrize(
    "url", ["redis+sentinel://one", "redis+sentinel:///main", "redis+sentinel://one:x/main"]
)
def test_an_address_without_a_master_or_a_host_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="REDIS_URL"):
        settings(REDIS_URL=url)
