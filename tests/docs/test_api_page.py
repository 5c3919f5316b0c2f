"""The examples of the API run in a shell, and get the answers that the pages show."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.product import WebProcess
from sandbox.stripe.process import SimulatorProcess
from shared.access import service as access
from tests.fixtures.product import environment

if TYPE_CHECKING:
    from shared.db.pool import Pool

ROOT = Path(__file__).parents[2]
API_PAGE = (ROOT / "docs/api.md").read_text(encoding="utf-8")
README_PATH = (
    (ROOT / "README.md")
    .read_text(encoding="utf-8")
    .split("\n## Use it from your app\n")[1]
    .split("\n## ")[0]
)
FENCE = re.compile(r"^```(sh|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "@@ the next example @@"
# What is another each time: shown up to the dots.
CUT = "…"


def examples(page: str) -> list[tuple[str, Any]]:
    """Return each block of commands with the answer that is shown behind it, if one is."""
    found: list[tuple[str, Any]] = []
    for kind, body in FENCE.findall(page):
        if kind == "sh":
            found.append((body, None))
        else:
            found[-1] = (found[-1][0], json.loads(body))
    return found


def check(shown: Any, got: Any, where: str) -> None:
    """Fail where an answer lacks what the page shows of it, or has another value there."""
    if isinstance(shown, dict):
        assert isinstance(got, dict), f"{where}: {got}"
        for name, value in shown.items():
            assert name in got, f"{where}.{name} is missing in {got}"
            check(value, got[name], f"{where}.{name}")
    elif isinstance(shown, list):
        assert isinstance(got, list), f"{where}: {got}"
        assert len(got) >= len(shown), f"{where}: {got}"
        for place, value in enumerate(shown):
            check(value, got[place], f"{where}[{place}]")
    elif isinstance(shown, str) and shown.endswith(CUT):
        assert isinstance(got, str), f"{where}: {got!r}"
        assert got.startswith(shown.removesuffix(CUT)), f"{where}: {got!r} is not {shown!r}"
    else:
        assert got == shown, where


@pytest.mark.parametrize("page", [API_PAGE, README_PATH], ids=["docs/api.md", "README.md"])
async def test_the_examples_run_and_get_the_answers_that_are_shown(
    database_url: str,
    redis_url: str,
    pool: Pool,
    stand_in: SimulatorProcess,
    tmp_path: Path,
    page: str,
) -> None:
    web = WebProcess(
        environment(database_url, redis_url) | {"STRIPE_API_BASE": stand_in.url},
        tmp_path / "web.log",
    )
    await web.start()
    try:
        async with pool.acquire() as connection:
            key = await access.create_key(
                connection, name="page", scope="admin", organization_id=None
            )
        script = f"\necho; echo '{MARK}'\n".join(commands for commands, _ in examples(page))
        shell = await asyncio.create_subprocess_exec(
            "bash", "-eu", "-o", "pipefail", "-c", script,
            env={**os.environ, "PREPAID": web.url, "KEY": key["key"]},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await shell.communicate()
    finally:
        await web.stop()
    answers = output.decode().split(MARK)
    assert shell.returncode == 0, answers[-1]
    for (commands, shown), got in zip(examples(page), answers, strict=True):
        if shown is None:
            assert '"code":' not in got, f"an error is answered: {got}"
        else:
            check(shown, json.loads(got), commands)


def test_the_page_shows_an_answer_for_nearly_every_command() -> None:
    answered = [shown for _, shown in examples(API_PAGE) if shown is not None]
    assert len(answered) >= 15
    assert len(examples(API_PAGE)) - len(answered) == 1  # the settings at the top


def test_a_wrong_answer_would_be_found() -> None:
    for shown in ({"a": 1}, {"a": [{"b": 3}]}, {"b": 1}, {"a": "x…"}):
        with pytest.raises(AssertionError):
            check(shown, {"a": [{"b": 2}]}, "answer")
    check({"a": [{"b": "ct_…"}]}, {"a": [{"b": "ct_1", "c": 2}], "d": 3}, "answer")
