"""20,000 payments with refunds and disputes, and lost events: found, and repaired."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import stripe

from bench.results import Ratio
from bench.setting import create_organization
from sandbox.ports import free_port
from sandbox.product import ProductProcess, WorkerProcess
from sandbox.stripe.process import SimulatorProcess
from shared.events.rules import types_with_effects
from shared.payments.client import stripe_client

PAYMENTS = int(os.environ.get("RECONCILE_PAYMENTS", "20000"))
REFUNDED_EVERY = 10
DISPUTED_EVERY = 100
AT_ONCE = 16
NEVER_DELIVERED = 0.02
NEVER_GENERATED = 0.005
PRICE_MINOR = 1_000
REFUND_MINOR = 400
CARD: Any = {
    "amount": PRICE_MINOR,
    "currency": "usd",
    "confirm": True,
    "payment_method": "pm_card_visa",
    "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
}


@dataclass(frozen=True, slots=True)
class Finished:
    """A run of the command: its document, how long it took, and its peak memory."""

    document: dict[str, Any]
    code: int
    seconds: float
    mebibytes: float


async def measure(environment: Mapping[str, str], folder: Path) -> list[Ratio]:
    """Sell with losses; report, repair with a kill in the middle, continue, and report again."""
    simulator = SimulatorProcess(folder / "reconcile.sqlite")
    url = await simulator.start()
    environment = {**environment, "STRIPE_API_BASE": url, "PREPAID_RECONCILE_EVERY": "never"}
    port = free_port()
    try:
        async with stripe_client(environment["STRIPE_API_KEY"], url) as client:
            secret = await _endpoint(client, port)
            environment = {**environment, "STRIPE_WEBHOOK_SECRETS": secret}
            web = ProductProcess(["serve", "--port", str(port)], environment, folder / "web.log")
            worker = WorkerProcess(environment, folder / "worker.log")
            organization = await create_organization(environment["DATABASE_URL"], "reconcile")
            try:
                await web.start(pipe_stdout=True)
                await web.ready_line()
                await worker.start()
                small = await _reconcile(environment)
                expected = await _sell(client, url, organization)
                await _settled(environment)
                reported = await _reconcile(environment)
                await _killed(environment)
                repaired = await _reconcile(environment, "--repair", "--resume")
                await _settled(environment)
                again = await _reconcile(environment)
                balance = await _balance(environment)
            finally:
                await worker.stop()
                await web.stop()
    finally:
        await simulator.stop()
    print(_figures(small, reported, repaired, again), file=sys.stderr, flush=True)
    return [
        Ratio(
            "reconcile: balance after the repair / money at Stripe",
            f"{balance:,.0f}",
            f"{expected:,.0f}",
            float(balance / expected),
            1,
        ),
        _none_left("differences found by the next run", again.document["drift"]),
        Ratio(
            "reconcile: memory with all payments / with none",
            f"{reported.mebibytes:.0f} MiB",
            f"{small.mebibytes:.0f} MiB",
            reported.mebibytes / small.mebibytes,
            1.3,
            at_most=True,
        ),
    ]


def _none_left(name: str, count: int) -> Ratio:
    return Ratio(f"reconcile: {name}", str(count), "0", float(count), 0, at_most=True)


def _figures(*runs: Finished) -> str:
    lines = []
    for name, run in zip(("empty", "report", "repair, continued", "again"), runs, strict=True):
        counts = {
            kind: value if isinstance(value, int) else len(value)
            for kind, value in run.document.items()
            if isinstance(value, int | list)
        }
        lines.append(f"{name}: {run.seconds:.0f} s, {run.mebibytes:.0f} MiB, {counts}")
    return "\n".join(lines)


async def _endpoint(client: stripe.StripeClient, port: int) -> str:
    params: Any = {
        "url": f"http://127.0.0.1:{port}/v1/webhooks/stripe",
        "enabled_events": types_with_effects(),
    }
    secret = (await client.v1.webhook_endpoints.create_async(params)).secret
    assert secret is not None
    return secret


async def _sell(client: stripe.StripeClient, url: str, organization: str) -> Decimal:
    """Sell, refund and dispute while events get lost; return what Stripe has left of the money."""
    for seed, (fault, share) in enumerate(
        (("never_generated", NEVER_GENERATED), ("dropped", NEVER_DELIVERED))
    ):
        await _sim(
            url, "faults", event="*", fault=fault, share=share, seed=seed, times=10 * PAYMENTS
        )
    turn = asyncio.Semaphore(AT_ONCE)
    params: Any = {**CARD, "metadata": {"organization_id": organization}}

    async def one(number: int) -> int:
        async with turn:
            intent = await client.v1.payment_intents.create_async(params)
            if number % DISPUTED_EVERY == 1:
                await _sim(url, f"charges/{intent.latest_charge}/dispute")
                return 0
            if number % REFUNDED_EVERY == 0:
                await client.v1.refunds.create_async(
                    {"payment_intent": intent.id, "amount": REFUND_MINOR}
                )
                return PRICE_MINOR - REFUND_MINOR
            return PRICE_MINOR

    began = time.monotonic()
    left = await asyncio.gather(*map(one, range(PAYMENTS)))
    await _sim(url, "deliveries/flush")
    print(f"sold and delivered in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return Decimal(sum(left)) / 100


async def _sim(url: str, path: str, **params: Any) -> None:
    timeout = aiohttp.ClientTimeout(total=1_800)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(f"{url}/_sim/{path}", json=params) as answer,
    ):
        assert answer.status == 200, await answer.text()


async def _settled(environment: Mapping[str, str]) -> None:
    connection = await asyncpg.connect(environment["DATABASE_URL"])
    while await connection.fetchval(  # noqa: ASYNC110 - the worker is another process
        "SELECT EXISTS (SELECT FROM stripe_events WHERE state IN ('received', 'retrying'))"
    ):
        await asyncio.sleep(0.2)
    await connection.close()


async def _balance(environment: Mapping[str, str]) -> Decimal:
    connection = await asyncpg.connect(environment["DATABASE_URL"])
    balance: Decimal = await connection.fetchval("SELECT sum(balance) FROM accounts")
    await connection.close()
    return balance


def _command(*options: str) -> list[str]:
    return [sys.executable, "-m", "cli", "reconcile", "--since", "24h", "--rate", "90", *options]


async def _reconcile(environment: Mapping[str, str], *options: str) -> Finished:
    """Run the command as a process of its own."""

    def work() -> Finished:
        began = time.monotonic()
        process = subprocess.Popen(
            [*_command(*options), "--json"],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        text = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        code = process.returncode = os.waitstatus_to_exitcode(status)
        return Finished(json.loads(text), code, time.monotonic() - began, used.ru_maxrss / 1024)

    return await asyncio.to_thread(work)


async def _killed(environment: Mapping[str, str]) -> None:
    """Begin a repair, and kill it in the middle of the payments."""
    process = await asyncio.create_subprocess_exec(
        *_command("--repair"),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    while not (await process.stderr.readline()).startswith(b"payment_intents"):
        assert process.returncode is None
    process.send_signal(signal.SIGKILL)
    await process.wait()
