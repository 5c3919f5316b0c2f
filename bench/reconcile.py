"""20,000 payments with refunds and disputes, and lost events: found, and repaired."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg

from bench.results import Ratio
from bench.setting import create_organization, resident
from sandbox.stripe import after_charge, faults, payment_intents, refunds
from sandbox.stripe.app import build_simulator
from sandbox.stripe.call import Call
from sandbox.stripe.process import SimulatorProcess
from shared import logging
from shared.config import LogFormat
from shared.db.pool import create_pool
from shared.events.rules import types_with_effects
from shared.events.service import Applier
from shared.inbox import rules, store
from shared.inbox.model import Delivery
from shared.payments.client import stripe_client
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms
from worker.drainer import Drainer

PAYMENTS = int(os.environ.get("RECONCILE_PAYMENTS", "20000"))
REFUNDED_EVERY = 10
DISPUTED_EVERY = 100
PAGE = 500
MEMORY_READ_SECONDS = 0.1
MEBIBYTE = 1024 * 1024
NEVER_DELIVERED = 0.02
NEVER_GENERATED = 0.005
PRICE_MINOR = 1_000
REFUND_MINOR = 400
CARD: dict[str, Any] = {
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
    state = folder / "reconcile.sqlite"
    simulator = SimulatorProcess(state)
    url = await simulator.start()
    environment = {**environment, "STRIPE_API_BASE": url}
    organization = await create_organization(environment["DATABASE_URL"], "reconcile")
    try:
        small = await _reconcile(environment)
        await simulator.stop()
        began = time.monotonic()
        expected, events = _sell(state, organization)
        print(f"sold in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        await simulator.start()
        began = time.monotonic()
        await _apply(environment, events)
        print(f"applied in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        reported = await _reconcile(environment)
        await _killed(environment)
        repaired = await _reconcile(environment, "--resume")
        again = await _reconcile(environment)
        balance = await _balance(environment)
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


def _sell(state: Path, organization: str) -> tuple[Decimal, list[Delivery]]:
    """Sell, refund and dispute, in the state of a simulator that is not running.

    Returns what Stripe has left of the money, and the events that it delivers.
    """
    simulator = build_simulator(
        state, account="acct_bench", retry_base_seconds=1, webhook_url=None, webhook_secret=""
    )
    lost = {"event": "*", "fault": "never_generated", "share": NEVER_GENERATED, "times": 10**9}
    faults.add(simulator.store, simulator.ids, lost)
    params = {**CARD, "metadata": {"organization_id": organization}}
    left = 0
    for start in range(0, PAYMENTS, PAGE):
        with simulator.store.transaction():
            call = simulator.call()
            for number in range(start, min(start + PAGE, PAYMENTS)):
                left += _sell_one(call, params, number)
    faults.clear(simulator.store)
    bodies = simulator.store.execute(
        "SELECT body FROM objects WHERE object = 'event' ORDER BY seq"
    ).fetchall()
    simulator.store.close()
    luck = Random(1)  # noqa: S311 - no secret
    read = [rules.read_header(row["body"].encode()) for row in bodies]
    handled = set(types_with_effects())
    return Decimal(left) / 100, [
        Delivery(header, text, "req_bench", None)
        for header, text in read
        if header.type in handled and luck.random() >= NEVER_DELIVERED
    ]


def _sell_one(call: Call, params: dict[str, Any], number: int) -> int:
    intent = payment_intents.create(call, params)
    if number % DISPUTED_EVERY == 1:
        charge = call.load("charge", intent["latest_charge"])
        after_charge.dispute(call, charge, "fraudulent")
        return 0
    if number % REFUNDED_EVERY == 0:
        refunds.create(call, {"payment_intent": intent["id"], "amount": REFUND_MINOR})
        return PRICE_MINOR - REFUND_MINOR
    return PRICE_MINOR


async def _apply(environment: Mapping[str, str], events: list[Delivery]) -> None:
    """Deliver the events; payments are decided by their events alone, so that Stripe is spared."""
    terms = SaleTerms(Decimal(1))
    logging.configure(LogFormat.CONSOLE, "WARNING", sys.stderr)
    async with (
        create_pool(environment["DATABASE_URL"], size=10, application_name="prepaid-bench") as pool,
        stripe_client(environment["STRIPE_API_KEY"], environment["STRIPE_API_BASE"]) as client,
    ):
        payments = [e for e in events if e.header.type == "payment_intent.succeeded"]
        others = [e for e in events if e.header.type != "payment_intent.succeeded"]
        appliers = Applier(pool, terms), Applier(pool, terms, lookup=StripeLookup(client))
        for applier, deliveries in zip(appliers, (payments, others), strict=True):
            for start in range(0, len(deliveries), PAGE):
                async with pool.acquire() as connection:
                    await store.receive(connection, deliveries[start : start + PAGE])
            await Drainer(pool, applier, make_token=uuid4).drain()
            async with pool.acquire() as connection:
                while await store.pending(connection):
                    await Drainer(pool, applier, make_token=uuid4).drain()


async def _balance(environment: Mapping[str, str]) -> Decimal:
    connection = await asyncpg.connect(environment["DATABASE_URL"])
    balance: Decimal = await connection.fetchval("SELECT sum(balance) FROM accounts")
    await connection.close()
    return balance


def _command(*options: str) -> list[str]:
    return [sys.executable, "-m", "cli", "reconcile", "--since", "24h", "--rate", "90", *options]


async def _reconcile(environment: Mapping[str, str], *options: str) -> Finished:
    """Run the command as a process of its own."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *_command(*options),
        "--json",
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    finished = asyncio.create_task(process.communicate())
    peak = 0
    while not finished.done():
        peak = max(peak, resident(process.pid, peak=True))
        await asyncio.wait({finished}, timeout=MEMORY_READ_SECONDS)
    text, _ = await finished
    assert process.returncode is not None
    return Finished(json.loads(text), process.returncode, time.monotonic() - began, peak / MEBIBYTE)


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
