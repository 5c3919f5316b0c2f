"""The units in deploy/systemd are valid, confine every process, and fit the code."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from shared.config import load
from shared.http import server
from shared.payments.client import STRIPE_SECONDS_MAX
from tests.fixtures.documents import NEEDED, ROOT, parse, variables_read_by_config
from tests.fixtures.machine import program

FOLDER = ROOT / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
PROGRAM = "/opt/prepaid/bin/prepaid"
# Of systemd-analyze security: 0 is confined most, 100 not at all. Below 20 it says OK.
EXPOSURE_MAX = 15


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for line in unit.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name].append(value)
    return found


def seconds(unit: str) -> int:
    return int(settings(FOLDER / unit)["TimeoutStopSec"][0])


async def analyze(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        "systemd-analyze",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """Copy the units so that they start a program that this machine has."""
    program("systemd-analyze", package="systemd")
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace(PROGRAM, sys.executable)
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    return sorted(tmp_path.glob("*.service"))


async def test_systemd_accepts_every_unit(units: list[Path]) -> None:
    code, output = await analyze("verify", "--man=no", *(str(unit) for unit in units))
    assert (code, output) == (0, "")


async def test_systemd_counts_every_unit_as_confined(units: list[Path]) -> None:
    for unit in units:
        code, output = await analyze(
            "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", str(unit)
        )
        assert code == 0, output


def test_the_units_start_what_exists() -> None:
    assert [unit.name for unit in UNITS] == [
        "prepaid-migrate.service",
        "prepaid-web@.service",
        "prepaid-worker@.service",
    ]
    for unit in UNITS:
        (command,) = settings(unit)["ExecStart"]
        program, *words = command.split()
        assert program == PROGRAM
        parse(words)


def test_no_unit_runs_as_a_user_that_exists_or_writes_to_the_system() -> None:
    for unit in UNITS:
        found = settings(unit)
        assert found["DynamicUser"] == ["yes"]
        assert found["ProtectSystem"] == ["strict"]
        assert found["NoNewPrivileges"] == ["yes"]
        assert found["CapabilityBoundingSet"] == [""]
        assert "User" not in found


def test_the_variables_of_the_units_are_those_of_the_settings() -> None:
    for unit in UNITS:
        for assignments in settings(unit)["Environment"]:
            names = {assignment.partition("=")[0] for assignment in assignments.split()}
            assert names <= variables_read_by_config()
    files = {unit.name: settings(unit)["EnvironmentFile"] for unit in UNITS}
    assert files["prepaid-migrate.service"] == ["/etc/prepaid/owner.env"]
    assert files["prepaid-web@.service"] == files["prepaid-worker@.service"]
    assert files["prepaid-web@.service"] == ["/etc/prepaid/prepaid.env"]


def test_systemd_waits_longer_than_a_process_takes_to_stop() -> None:
    drain = load(NEEDED).drain_seconds
    assert seconds("prepaid-web@.service") > drain + 2 * server.SHUTDOWN_SECONDS_MAX
    assert seconds("prepaid-worker@.service") > STRIPE_SECONDS_MAX + server.SHUTDOWN_SECONDS_MAX
