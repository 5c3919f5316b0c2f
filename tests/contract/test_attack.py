"""Every route with every kind of key and hostile values, on a real process: no 5xx."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.endpoints import OPERATIONS
from bench import attack
from tests.fixtures.product import environment


@pytest.mark.timeout(300)  # some hundred requests, and three processes
async def test_no_route_answers_5xx_whatever_is_sent_with_whatever_key(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    env = environment(database_url, redis_url)
    async with attack.target(env, tmp_path) as (web, keys):
        found = await attack.attack(web, keys, seed=1, seconds=None, bait_bytes=1_000)
        assert found.failures == []
        assert found.requests > len(keys) * len(OPERATIONS)
        assert web.is_running
