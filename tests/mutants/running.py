"""Runs mutants: each in a copy of this tree, with the tests that must kill it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree as ET

from migrations.runner import migrate
from sandbox.servers import EmbeddedServers
from tests.fixtures.servers import HOME_PREFIX, database_at, execute, fast_folder
from tests.mutants.catalog import ROOT, Mutant, StaleMutantError, mutated
from tests.mutants.child import PRELOADED, run_tests

TEST_SECONDS_MAX = 90  # longer than a test waits for anything; one that hangs kills its mutant
RUN_SECONDS_MAX = 240
TEMPLATE = "prepaid_mutants"
ARGUMENTS = (
    "-x", "-q", "-p", "no:cacheprovider", f"--timeout={TEST_SECONDS_MAX}",
    "--junitxml=report.xml", "--database-roles=superuser",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",  # of libraries that are loaded already
)  # fmt: skip
GIVEN_SCHEMA = (f"--template-database={TEMPLATE}",)
PROCESSES = multiprocessing.get_context("forkserver")


class Verdict(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    STALE = "stale"
    BROKEN = "broken"
    """No test failed or passed: the edit breaks what the tests stand on, or a test is gone."""


@dataclass(frozen=True)
class Result:
    """A verdict with its reason: the test that failed, or what went wrong."""

    mutant: Mutant
    verdict: Verdict
    reason: str
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """A run of tests: the first one that failed, the number that passed, and the last output."""

    failed: str | None
    passed: int
    output: str


@dataclass(frozen=True)
class Bench:
    """A copy of the tree, with servers of its own and a database that has the schema."""

    root: Path
    servers: EmbeddedServers

    async def run(self, tests: Sequence[str], *, new_schema: bool = True) -> Outcome:
        """Run tests in the copy until one fails; `new_schema`: on the schema of the copy."""
        report, output = self.root / "report.xml", self.root / "output.txt"
        report.unlink(missing_ok=True)
        process = PROCESSES.Process(
            target=run_tests,
            args=([*ARGUMENTS, *([] if new_schema else GIVEN_SCHEMA), *tests],),
            kwargs={
                "root": self.root,
                "original": ROOT,
                "environment": {
                    "PYTHONPATH": f"{self.root}{os.pathsep}{self.root / 'clients/python/src'}",
                    "PYTHONDONTWRITEBYTECODE": "",
                    "DATABASE_URL": self.servers.database_url,
                    "REDIS_URL": self.servers.redis_url,
                },
                "output": output,
            },
        )
        process.start()
        await asyncio.to_thread(process.join, RUN_SECONDS_MAX)
        if process.is_alive():
            process.kill()
            process.join()
            return Outcome(None, 0, f"no end within {RUN_SECONDS_MAX} s")
        return read_report(report, output.read_text(encoding="utf-8", errors="replace"))

    async def judge(self, mutant: Mutant) -> Result:
        """Run the tests of a mutant in the copy that it changes; restore the copy."""
        started = time.monotonic()
        try:
            texts = mutated(mutant, self.root)
        except StaleMutantError as error:
            return Result(mutant, Verdict.STALE, str(error), 0)
        before = {path: path.read_text(encoding="utf-8") for path in texts}
        write(texts)
        try:
            outcome = await self.run(mutant.tests, new_schema=mutant.changes_schema)
        finally:
            write(before)
        seconds = time.monotonic() - started
        if outcome.failed:
            return Result(mutant, Verdict.KILLED, outcome.failed, seconds)
        if outcome.passed:
            return Result(mutant, Verdict.SURVIVED, f"{outcome.passed} passed", seconds)
        return Result(mutant, Verdict.BROKEN, outcome.output[-1500:], seconds)


def read_report(report: Path, output: str) -> Outcome:
    """Read a report of pytest's. An error outside of a test is no failure of it."""
    if not report.exists():
        return Outcome(None, 0, output)
    cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 - pytest wrote it
    failed = [case.get("name", "") for case in cases if case.find("failure") is not None]
    passed = [case for case in cases if not len(case)]
    errors = [case for case in cases if case.find("error") is not None]
    return Outcome(next(iter(failed), None), 0 if errors else len(passed), output)


def write(texts: dict[Path, str]) -> None:
    """Write files so that Python sees that they have changed."""
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")


def copy_tree(to: Path) -> None:
    """Copy the files of this checkout, without what git ignores, and their bytecode."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, to / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    for folder in {path.parent for path in to.rglob("*.py")}:
        compiled = ROOT / folder.relative_to(to) / "__pycache__"
        if compiled.is_dir():  # valid there too: a copied file has its time
            shutil.copytree(compiled, folder / "__pycache__")


@asynccontextmanager
async def benches(count: int) -> AsyncIterator[list[Bench]]:
    """Yield so many copies of the tree, and delete them afterwards."""
    PROCESSES.set_forkserver_preload([*PRELOADED])
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prepaid-mutant-")))
            copy_tree(root)
            home = Path(tempfile.mkdtemp(prefix=HOME_PREFIX, dir=fast_folder()))
            servers = EmbeddedServers(home, fsync=False, appendonly=False, keep=False)
            await stack.enter_async_context(servers)
            await execute(servers.database_url, f"CREATE DATABASE {TEMPLATE}")
            template_url = database_at(servers.database_url, TEMPLATE)
            await migrate(template_url)
            found.append(Bench(root, servers))
        yield found


async def run_all(
    mutants: Sequence[Mutant], *, jobs: int, report: Callable[[Result], None]
) -> list[Result]:
    """Judge mutants, several at once; report each result as it comes."""
    waiting = list(reversed(mutants))
    results: list[Result] = []

    async def work(bench: Bench) -> None:
        while waiting:
            result = await bench.judge(waiting.pop())
            results.append(result)
            report(result)

    async with benches(jobs) as found:
        await asyncio.gather(*(work(bench) for bench in found))
    return results


async def run_unmutated(mutants: Sequence[Mutant]) -> Outcome:
    """Run the tests of all these mutants on a copy that nothing has changed."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    async with benches(1) as (bench,):
        return await bench.run(tests)
