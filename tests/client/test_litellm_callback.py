"""The callback of LiteLLM, with LiteLLM itself, against the real API and a model server."""

from __future__ import annotations

import asyncio
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prepaid_client import AsyncClient

from shared.organizations.model import Organization
from tests.client.test_example_stream import BOOK
from tests.fixtures.api import ApiClient
from tests.fixtures.model_server import WORDS, model_server
from tests.fixtures.pricing import activate_book

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-litellm/bin/python"
TEXT = "".join(WORDS)
SCRIPT = ROOT / "tests/fixtures/litellm_calls.py"

# An optional integration whose package is larger than everything else together. CI installs it
# (.ci/run); the rest of the client needs no LiteLLM, and its other tests do not skip.
needs_litellm = pytest.mark.skipif(
    not PYTHON.exists(), reason="LiteLLM takes 380 MB: `make litellm` installs it beside the rest"
)


@needs_litellm
async def test_litellm_reserves_before_each_call_and_charges_what_it_used(
    api_client: ApiClient, prepaid_async: AsyncClient, funded: Organization
) -> None:
    assert api_client.key is not None
    await activate_book(api_client.pool, BOOK.replace('"gpt-4o"', '"gpt-4o", "openai/gpt-4o"'))
    await prepaid_async.create_organization("poor", "Poor")
    async with model_server() as model, model_server() as breaking, model_server() as busy:
        breaking.breaks_after, busy.refuses = 3, True
        process = await asyncio.create_subprocess_exec(
            PYTHON, SCRIPT, api_client.url, api_client.key, model.url, breaking.url, busy.url,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT / "clients/python/src"),
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks GitHub
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()[-3000:]
    lines = [json.loads(line) for line in stdout.decode().splitlines() if line.startswith("[")]
    assert {held for *_, held in lines} == {0}
    calls: dict[str, tuple[str, Any]] = {
        name: (result, Decimal(balance)) for name, result, balance, _ in lines
    }
    # 40 tokens of input and 90 of output are 1 credit.
    assert calls.pop("whole") == (TEXT, 99)
    assert calls.pop("stream") == (TEXT, 98)
    assert calls.pop("abandoned") == ("Credits are", 98)
    name, left = calls.pop("broken")
    assert name == "MidStreamFallbackError"
    assert Decimal("97.8") < left < 98  # what LiteLLM counted
    assert calls == {"refused": ("APIError", left), "insufficient": ("0", left)}
