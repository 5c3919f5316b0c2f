"""The streaming example, from its start to its end, broken off, and refused."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import pytest_asyncio
from prepaid_client import AsyncClient

from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.faulty_proxy import FaultyProxy
from tests.fixtures.model_server import ModelServer, model_server
from tests.fixtures.pricing import activate_book

SCRIPT = Path(__file__).parents[2] / "examples/stream_chat.py"
# 2.50 and 10 credits for 1,000 tokens.
BOOK = """
name = "default"
[[prices]]
models = ["gpt-4o"]
[prices.measures]
input_tokens = "2.50 / 1K"
output_tokens = "10 / 1K"
"""


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stream_chat", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest_asyncio.fixture
async def model(api_client: ApiClient, funded: Organization) -> AsyncIterator[ModelServer]:
    """Serve a model that the price book has."""
    await activate_book(api_client.pool, BOOK)
    async with model_server() as server:
        yield server


async def left(client: AsyncClient) -> object:
    found = await client.balance("acme")
    assert found["reservedCreditsDecimillicents"] == 0
    return found["balance"]


async def test_a_stream_is_charged_by_the_usage_that_the_model_reports(
    model: ModelServer, proxy: FaultyProxy, api_client: ApiClient, prepaid_async: AsyncClient
) -> None:
    assert api_client.key is not None
    process = await asyncio.create_subprocess_exec(
        sys.executable, SCRIPT, "acme", "How are credits burned?",
        env={"PREPAID": proxy.url, "KEY": api_client.key, "MODEL_URL": model.url},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    stdout, _ = await process.communicate()
    assert stdout.decode() == "Credits are burned in order."
    assert model.requests[0]["stream_options"] == {"include_usage": True}
    assert await left(prepaid_async) == 99  # 40 of input, 90 of output


async def test_a_stream_that_breaks_is_charged_by_what_was_streamed(
    model: ModelServer, prepaid_async: AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    model.breaks_after = 3
    async with httpx.AsyncClient(base_url=model.url) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await example().chat(prepaid_async, http, "acme", "How are credits burned?")
    assert capsys.readouterr().out == "Credits are burned"
    # 23 bytes of input and 3 chunks of output.
    assert await left(prepaid_async) == 100 - Decimal("0.0875")


async def test_a_reader_that_goes_away_is_charged_by_what_was_streamed(
    model: ModelServer, prepaid_async: AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    model.waits_after = 2
    script = example()
    streamed = asyncio.Event()

    def print_word(word: str, **_: object) -> None:
        if word == " are":
            streamed.set()

    script.print = print_word  # type: ignore[attr-defined]
    async with httpx.AsyncClient(base_url=model.url) as http:
        task = asyncio.create_task(script.chat(prepaid_async, http, "acme", "Why?"))
        await streamed.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    model.go.set()
    assert await left(prepaid_async) == 100 - Decimal("0.03")


async def test_a_model_that_refuses_costs_nothing(
    model: ModelServer, prepaid_async: AsyncClient
) -> None:
    model.refuses = True
    async with httpx.AsyncClient(base_url=model.url) as http:
        with pytest.raises(httpx.HTTPStatusError):
            await example().chat(prepaid_async, http, "acme", "Why?")
    assert await left(prepaid_async) == 100
