"""The examples run against real servers, the Stripe simulator and a model server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_asyncio

from sandbox.product import WebProcess, WorkerProcess
from sandbox.stripe.process import SimulatorProcess
from shared.access import service as access
from tests.fixtures.model_server import USAGE, model_server
from tests.fixtures.product import environment

if TYPE_CHECKING:
    from shared.db.pool import Pool

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest_asyncio.fixture
async def installation(
    database_url: str, redis_url: str, stand_in: SimulatorProcess, tmp_path: Path
) -> AsyncIterator[WebProcess]:
    """Start a web process and a worker, as an installation has them."""
    found = environment(database_url, redis_url) | {"STRIPE_API_BASE": stand_in.url}
    web = WebProcess(found, tmp_path / "web.log")
    worker = WorkerProcess(found, tmp_path / "worker.log")
    try:
        await asyncio.gather(web.start(), worker.start())
        yield web
    finally:
        await asyncio.gather(web.stop(), worker.stop())


async def run(name: str, **env: str) -> str:
    """Run an example; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", EXAMPLES / name,
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()[-2000:]
    return stdout.decode()


async def test_an_app_sells_credits_and_charges_a_stream_by_its_tokens(
    installation: WebProcess, pool: Pool
) -> None:
    async with pool.acquire() as connection:
        key = await access.create_key(connection, name="app", scope="admin", organization_id=None)
    async with model_server() as model:
        printed = await run(
            "llm_app.py", PREPAID=installation.url, KEY=key["key"], MODEL_URL=model.url
        )
    lines = dict(line.split(" ", 1) for line in printed.splitlines())
    # 40 of input at 0.0025 and 90 of output at 0.01, plus 20%.
    assert (USAGE["prompt_tokens"], USAGE["completion_tokens"]) == (40, 90)
    assert lines["Credits"] == "are burned in order."
    assert lines["charged"] == "1.2 left 23.8"
    assert lines["recharged"] == "to 23.8"
    assert lines["refused:"] == "1000 needed, 23.8 available"
    assert lines["receipt"].startswith("http")
    statement = json.loads(lines["statement"])
    assert {name: float(statement[name]) for name in ("purchased", "recharged", "used")} == {
        "purchased": 25,
        "recharged": 20,
        "used": -21.2,
    }
