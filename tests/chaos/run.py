"""One chaos run, in order: set up, traffic and faults, heal, drain, reconcile, audit."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import asyncpg

from shared.payments.client import stripe_client
from tests.chaos import books, plan
from tests.chaos.audit import audit
from tests.chaos.client import Client, new_session
from tests.chaos.customers import Customers, customers_of
from tests.chaos.faults import Faults
from tests.chaos.installation import CUSTOMERS_KEY, Installation, installed
from tests.chaos.journal import Journal
from tests.chaos.log_lines import unexpected_lines
from tests.chaos.organizations import Organization, Role, of_role, open_organizations
from tests.chaos.records import Records
from tests.chaos.recovery import Recoveries
from tests.chaos.report import Result
from tests.chaos.setting import Setting
from tests.chaos.traffic import Lane

# A request that died with its process holds its Idempotency-Key for 40 s, and a lane may send two.
ANSWERED_SECONDS_MAX = 120
# An event that failed eight times waits for two minutes, twice as long at each failure.
SETTLED_SECONDS_MAX = 300
LOOK_SECONDS = 0.2
RECONCILE = ("reconcile", "--since", "1h", "--rate", "90")
# Doctor's checks that say nothing about a guarantee here: the endpoint is the balancer's.
NOT_JUDGED = frozenset({"webhook"})


@dataclass
class _Run:
    setting: Setting
    installation: Installation
    say: Callable[[str], None]
    client: Client
    customers: Customers
    stripe_http: aiohttp.ClientSession
    stop: asyncio.Event
    organizations: list[Organization]

    def lanes(self) -> list[Lane]:
        """Return a lane for each organization."""
        return [
            Lane(
                organization,
                self.client,
                self.customers,
                Random(f"lane/{self.setting.seed}/{organization.name}"),  # noqa: S311 - a seed
                self.stop,
            )
            for organization in self.organizations
        ]


async def run(setting: Setting, say: Callable[[str], None]) -> Result:
    """Run for so many seconds; return what it came to."""
    seed = setting.seed
    async with AsyncExitStack() as stack:
        installation = await stack.enter_async_context(installed(setting))
        http = await stack.enter_async_context(new_session())
        stripe_http = await stack.enter_async_context(
            aiohttp.ClientSession(installation.stripe.url)
        )
        stripe = await stack.enter_async_context(
            stripe_client(CUSTOMERS_KEY, installation.stripe.url)
        )
        over, journal = asyncio.Event(), Journal()
        journal.acknowledged = installation.balancer.acknowledged
        journal.received = installation.app.received
        random = Random(f"client/{seed}")  # noqa: S311 - a seed
        client = Client(installation.webs, installation.api_key, http, journal, random, over)
        customers = customers_of(stripe, stripe_http, seed)
        say("setting up the organizations")
        await client.send(
            "PUT", "/v1/webhook-endpoints", {"url": installation.links[plan.APP_LINK].url}
        )
        organizations = await open_organizations(client, customers)
        running = _Run(
            setting, installation, say, client, customers, stripe_http, asyncio.Event(),
            organizations,
        )  # fmt: skip
        return await _carry_out(running)


async def _carry_out(run: _Run) -> Result:
    setting, installation, client = run.setting, run.installation, run.client
    probes = {name: _only(client, name) for name in plan.WEBS}
    user = of_role(run.organizations, Role.USER)[0].id
    recoveries = Recoveries(installation, probes, user)
    faults = Faults(
        installation,
        run.stripe_http,
        [organization.id for organization in run.organizations],
        Random(f"faults/{setting.seed}"),  # noqa: S311 - a seed
        recoveries.killed,
        recoveries.begin,
    )
    planned = plan.make_plan(setting.seed, setting.seconds, setting.machine.kinds)
    run.say(f"seed {setting.seed}: {len(planned)} faults in {setting.seconds:g} s")
    await faults.trouble_stripe(setting.seed)
    lanes = [asyncio.create_task(lane.run()) for lane in run.lanes()]
    try:
        await _watch(lanes, faults.run(planned, run.say), setting.seconds)
    except BaseException:
        client.over.set()
        await asyncio.wait(lanes, timeout=ANSWERED_SECONDS_MAX)
        raise
    run.stop.set()
    run.say("healing")
    await faults.heal()
    healed = time.monotonic()
    lost = await recoveries.finish(ANSWERED_SECONDS_MAX)
    _, unfinished = await asyncio.wait(lanes, timeout=ANSWERED_SECONDS_MAX)
    client.over.set()
    await asyncio.gather(*lanes)
    run.say("draining and reconciling")
    settled = await _settle(run)
    settled_seconds = time.monotonic() - healed
    checks, records = await _audit(run, settled)
    checks["processes that ended by themselves"] = faults.problems
    checks["kills without recovery"] = lost
    checks["requests without an answer long after the last fault"] = [
        f"{len(unfinished)} lanes" for _ in unfinished
    ]
    return Result(
        setting, faults.happened, records, checks,
        recoveries.done, recoveries.takeovers, faults.starts, settled_seconds,
    )  # fmt: skip


def _only(client: Client, name: str) -> Client:
    """Return a client of one web process alone."""
    random = Random(f"probe/{name}")  # noqa: S311 - a seed
    webs = {name: client.webs[name]}
    return Client(webs, client.api_key, client.http, client.journal, random, client.over)


async def _watch(lanes: list[asyncio.Task[None]], faults: Any, seconds: float) -> None:
    """Carry out the faults for so many seconds; a lane that fails ends the run."""
    ends = time.monotonic() + seconds
    working = asyncio.ensure_future(faults)
    done, _ = await asyncio.wait([working, *lanes], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    await asyncio.sleep(max(0.0, ends - time.monotonic()))


async def _settle(run: _Run) -> list[str]:
    """Wait until Stripe has delivered, reconcile, and wait until nothing is open any more."""
    problems = []
    connection = await run.installation.connect()
    try:
        async with asyncio.timeout(SETTLED_SECONDS_MAX):
            await _until(lambda: _delivered(run))
            code, document = await prepaid(
                run.installation, "reconcile", "--since", "1h", "--repair"
            )
            if code:
                run.say(f"reconcile --repair: {document.get('problems') or document.get('drift')}")
            await _until(lambda: _all_has_ended(connection))
            code, document = await prepaid(run.installation, *RECONCILE)
            if code:
                problems.append(f"reconcile finds {_differences(document)}")
    except TimeoutError:
        names = ", ".join(f"{name}: {count}" for name, count in (await _open(connection)).items())
        problems.append(f"open {SETTLED_SECONDS_MAX} s after the last fault: {names}")
    finally:
        await connection.close()
    return problems


def _differences(document: dict[str, Any]) -> dict[str, Any]:
    return {name: found for name, found in document.items() if isinstance(found, list) and found}


async def _until(holds: Callable[[], Any]) -> None:
    while not await holds():  # noqa: ASYNC110 - other processes do the work
        await asyncio.sleep(LOOK_SECONDS)


async def _delivered(run: _Run) -> bool:
    async with run.stripe_http.get("/_sim/deliveries") as answer:
        return all(each["state"] != "pending" for each in (await answer.json())["data"])


async def _all_has_ended(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    return not any((await _open(connection)).values())


async def _open(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, int]:
    """Return how much is open, by kind."""
    row = await connection.fetchrow(books.OPEN)
    assert row is not None
    return dict(row)


async def _audit(run: _Run, settled: list[str]) -> tuple[dict[str, list[str]], Records]:
    installation = run.installation
    connection = await installation.connect()
    product = await books.read_product(connection)
    await connection.close()
    stripe = await books.read_stripe(run.customers.client)
    records = Records(stripe, product, run.client.journal)
    checks = audit(records)
    code, verified = await prepaid(installation, "ledger", "verify")
    checks["hash chains broken"] = [str(verified)] if code else []
    _, doctor = await prepaid(installation, "doctor")
    checks["what doctor finds"] = [
        f"{check['name']}: {check['detail']}"
        for check in doctor["checks"]
        if not check["ok"] and check["name"] not in NOT_JUDGED
    ]
    checks["what reconciliation finds"] = settled
    checks["log lines that mean a bug"] = unexpected_lines(run.setting.folder.glob("*.log"))
    return checks, records


async def prepaid(installation: Installation, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a `prepaid` command; return its exit code and its document."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", *arguments, "--json"),
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
        | installation.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    if not stdout:
        return process.returncode or 1, {"problems": stderr.decode()[-1000:]}
    return process.returncode or 0, json.loads(stdout)
