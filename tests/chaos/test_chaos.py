"""One chaos run: `make chaos` with seed 1, of PREPAID_CHAOS_SECONDS; a minute in `make check`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.fixtures.profile import cases

SECONDS = int(os.environ.get("PREPAID_CHAOS_SECONDS") or cases(quick=5, thorough=60))
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(SECONDS + 400)
async def test_random_faults_under_random_traffic_break_no_guarantee(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos", "--seconds", str(SECONDS), "--seed", "1"),
        *("--logs", str(tmp_path)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:  # the test has given up waiting
            process.kill()
            await process.wait()
    table = output.decode()
    print(table)  # noqa: T201 - shown with -s, and where it fails
    assert process.returncode == 0, table
