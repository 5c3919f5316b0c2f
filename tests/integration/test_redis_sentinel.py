"""REDIS_URL names a master by its Sentinels: wakeups reach it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.queue.connection import QUEUE_NAME, connect
from shared.queue.wakeup import Wakeup
from shared.sentinel_address import parse
from tests.fixtures.product import settings
from tests.fixtures.sentinels import watched


async def test_wakeups_go_to_the_master_that_the_sentinels_name(tmp_path: Path) -> None:
    async with watched(tmp_path) as valkey:
        client = connect(settings(REDIS_URL=valkey.url).redis_url)
        try:
            wakeup = Wakeup(client)
            wakeup.send()
            await wakeup.close()
            assert await client.zcard(QUEUE_NAME) == 1
        finally:
            await client.aclose(close_connection_pool=True)
        assert await valkey.master.command("ZCARD", QUEUE_NAME) == 1


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
