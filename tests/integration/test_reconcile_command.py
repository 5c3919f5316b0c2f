"""`prepaid reconcile` on the command line."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shared.reconciliation.run import only_run
from tests.fixtures.commands import Command
from tests.fixtures.product import balance, environment
from tests.fixtures.storefront import Storefront

if TYPE_CHECKING:
    from sandbox.stripe.process import SimulatorProcess
    from shared.organizations.model import Organization

FOR_US: dict[str, Any] = {"metadata": {"organization_id": "acme"}}
ROOT = Path(__file__).parents[2]


async def test_a_difference_is_reported_previewed_repaired_and_then_gone(
    storefront: Storefront,
    stand_in: SimulatorProcess,
    organization: Organization,
    prepaid: Command,
    prepaid_process: Command,
) -> None:
    await storefront.sim("faults", event="*", fault="never_generated", times=9)
    payment = await storefront.charge(**FOR_US)
    await (await storefront.http.delete("/_sim/faults")).release()
    await storefront.sim("faults", event="*", fault="dropped", times=9)
    await storefront.charge(**FOR_US)
    base, rate = {"STRIPE_API_BASE": stand_in.url}, ("--rate", "90")

    reported = await prepaid("reconcile", "--since", "24h", *rate, "--json", **base)
    assert reported.code == 1
    document = reported.json
    assert document["missingEvents"] == 1
    assert {each["id"] for each in document["chargedNotCredited"]} > {payment}
    assert (document["creditedNotCharged"], document["repaired"]) == ([], 0)
    assert document["checked"] > 2

    previewed = await prepaid("reconcile", "--repair", "--dry-run", *rate, "--json", **base)
    assert (previewed.code, previewed.json["dryRun"]) == (1, True)
    assert [each["credits"] for each in previewed.json["chargedNotCredited"]] == [20, 20]
    assert previewed.json["repaired"] == 3
    assert await balance(storefront.pool) == 0

    repaired = await prepaid_process("reconcile", "--repair", *rate, "--json", **base)
    assert (repaired.code, repaired.json["repaired"], repaired.json["drift"]) == (0, 2, 0)
    assert await balance(storefront.pool) == 40

    clean = await prepaid("reconcile", *rate, **base)
    assert (clean.code, clean.stdout.splitlines()[-1]) == (0, "no difference")


async def test_a_start_in_the_future_is_incorrect_usage(prepaid: Command) -> None:
    finished = await prepaid("reconcile", "--since", "2999-01-01")
    assert finished.code == 2
    assert "future" in finished.stderr


async def test_it_says_that_stripe_has_events_of_thirty_days_only(
    prepaid: Command, stand_in: SimulatorProcess
) -> None:
    finished = await prepaid(
        "reconcile", "--since", "60d", "--no-on-file", STRIPE_API_BASE=stand_in.url
    )
    assert "events of the last 30 days only" in finished.stderr


async def test_a_second_one_at_the_same_time_says_so(
    prepaid: Command, database_url: str, stand_in: SimulatorProcess
) -> None:
    async with only_run(database_url):
        finished = await prepaid("reconcile", STRIPE_API_BASE=stand_in.url)
    assert finished.code == 1
    assert "Another reconciliation is running" in finished.stderr


async def test_there_is_nothing_to_resume_before_a_run(
    prepaid: Command, stand_in: SimulatorProcess
) -> None:
    finished = await prepaid("reconcile", "--resume", STRIPE_API_BASE=stand_in.url)
    assert finished.code == 1
    assert "no interrupted run" in finished.stderr


@pytest.mark.usefixtures("organization")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_a_process_that_is_killed_or_interrupted_leaves_a_run_that_another_continues(
    storefront: Storefront,
    stand_in: SimulatorProcess,
    prepaid: Command,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    await (await storefront.http.delete("/_sim/faults")).release()
    await storefront.sim("faults", method="GET", path="/v1/refunds", fault="slow", seconds=3)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "reconcile", "--rate", "90", "--json",
        cwd=ROOT,
        env={**environment(database_url, redis_url), "STRIPE_API_BASE": stand_in.url,
             "PREPAID_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    while not (await process.stderr.readline()).startswith(b"invoices"):
        assert process.returncode is None
    process.send_signal(number)
    rest = await process.stderr.read()
    await process.wait()
    if number is signal.SIGINT:
        line = b"prepaid: Interrupted. Continue with prepaid reconcile --resume"
        assert (process.returncode, rest.splitlines()[-1]) == (1, line)
    (state,) = [
        row["state"] for row in await storefront.pool.fetch("SELECT state FROM reconciliation_runs")
    ]
    assert state == "running"
    resumed = await prepaid(
        "reconcile", "--resume", "--rate", "90", "--json", STRIPE_API_BASE=stand_in.url
    )
    runs = await storefront.pool.fetch("SELECT id, state FROM reconciliation_runs")
    assert [(str(run["id"]), run["state"]) for run in runs] == [(resumed.json["runId"], "finished")]
