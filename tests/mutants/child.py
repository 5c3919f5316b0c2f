"""The process that runs the tests of a mutant: forked from one that has loaded the libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PRELOADED = (
    "_hypothesis_pytestplugin", "aiohttp.test_utils", "aiohttp.web", "alembic.command",
    "alembic.config", "arq.worker", "asyncpg", "bs4", "execnet", "httpx", "hypothesis",
    "hypothesis.strategies", "jinja2", "jsonschema", "msgspec", "prometheus_client", "pygments",
    "pytest", "pytest_asyncio.plugin", "pytest_timeout", "redis.asyncio", "rich.console",
    "sqlalchemy.ext.asyncio", "stripe", "stripe._oauth_service", "stripe._stripe_client",
    "structlog", "typer.testing", "unittest.mock", "urllib3", "uvloop", "xdist.looponfail",
    "xdist.plugin",
)  # fmt: skip


def run_tests(
    arguments: Sequence[str],
    *,
    root: Path,
    original: Path,
    environment: Mapping[str, str],
    output: Path,
) -> None:
    """Run pytest in a copy of the tree; exit with its code. Nothing of the original is imported."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(original) and ".venv" not in file:
            del sys.modules[name]
    sys.path[:0] = [str(root), str(root / "clients/python/src")]
    os.chdir(root)
    os.environ.update(environment)
    sys.dont_write_bytecode = False  # what a mutant leaves unchanged is compiled once for all
    with output.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    import pytest  # noqa: PLC0415 - in the child, after the path is set

    sys.exit(pytest.main(list(arguments)))
