"""A real `prepaid worker` process: it says when it works, and stops when it is told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.product import ProductProcess
from tests.fixtures.product import environment

pytestmark = pytest.mark.usefixtures("executed_processes")  # the start is part of the test


@pytest.mark.parametrize("level", ["INFO", "ERROR"])
async def test_a_worker_says_that_it_is_ready_whatever_its_log_level(
    database_url: str, redis_url: str, tmp_path: Path, level: str
) -> None:
    variables = environment(database_url, redis_url) | {"LOG_LEVEL": level}
    worker = ProductProcess(["worker"], variables, tmp_path / "worker.log")
    await worker.start(pipe_stdout=True)
    assert await worker.ready_line() == {"ready": True}
    assert await worker.stop() == 0
