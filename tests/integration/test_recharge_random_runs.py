"""Random runs of auto-recharge: whatever goes wrong, each attempt is captured once.

A run is one organization with a random rule and card, random faults of Stripe, random deaths of its
workers and leases that end too early; all of it follows from the run's seed. A hundred runs share a
database, a simulator and two workers at once, so that they also disturb each other. When the faults
end and time goes on, no invariant may be broken.

A failure names its seeds. To run one alone, or others, or more:

    pytest tests/integration/test_recharge_random_runs.py --recharge-seed=1234 --recharge-runs=1
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import structlog

from shared.ledger import verification
from shared.recharge.model import AttemptState, RechargeState, SuspensionReason
from shared.recharge.states import LINK_LIFETIME, UNANSWERED_MAX
from tests.fixtures.receiver import Receiver
from tests.fixtures.recharge_runs import DeathError, Run, World, start
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    from worker.drainer import Drainer

RUNS_AT_ONCE = 100
ROUNDS_OF_TROUBLE = 5
ROUNDS_OF_CALM = 12
CALM = timedelta(hours=7)
DECLINES_MAX = 3
DECLINING = {"soft", "poor", "lost", "no bank"}
EVENTS = ["succeeded", "payment_failed", "canceled", "processing", "requires_action"]


@pytest_asyncio.fixture
async def hook(shop: Shop, receiver: Receiver) -> AsyncIterator[Receiver]:
    types = [f"payment_intent.{event}" for event in EVENTS]
    made = await shop.client.v1.webhook_endpoints.create_async(
        {"url": receiver.url(), "enabled_events": types}  # type: ignore[typeddict-item] # literals
    )
    yield receiver
    await shop.client.v1.webhook_endpoints.delete_async(made.id)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    first = metafunc.config.getoption("--recharge-seed")
    last = first + metafunc.config.getoption("--recharge-runs")
    starts = range(first, last, RUNS_AT_ONCE)
    batches = [range(start, min(start + RUNS_AT_ONCE, last)) for start in starts]
    metafunc.parametrize("seeds", batches, ids=[f"{one[0]}-{one[-1]}" for one in batches])


@pytest.fixture
def unexpected() -> Iterator[list[str]]:
    """Keep what went wrong unexpectedly, but for the deaths; write no log."""
    found: list[str] = []

    def keep(_logger: Any, _method: str, event: Any) -> Any:
        error = sys.exc_info()[1] if event.get("exc_info") else None
        if error is not None and not isinstance(error, DeathError):
            found.append(f"{event['event']}: {error!r}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, keep])
    yield found
    structlog.configure(**before)


@pytest.mark.timeout(300)  # a hundred organizations, on a machine that has other things to do
async def test_no_run_captures_twice_loses_a_credit_or_gets_stuck(
    shop: Shop, drainer: Drainer, hook: Receiver, unexpected: list[str], seeds: range
) -> None:
    runs = [await start(seed, shop) for seed in seeds]
    by_owner = {run.shop.owner.id: run for run in runs}
    world = World(shop, drainer, hook, Random(seeds[0]), by_owner)  # noqa: S311 - a seed
    for _ in range(ROUNDS_OF_TROUBLE):
        await world.round(timedelta(minutes=30))
        await asyncio.gather(*(run.post_usage(8) for run in runs))
    world.troubled = False
    async with shop.session.delete("/_sim/faults") as cleared:
        assert cleared.status == 200
    for _ in range(ROUNDS_OF_CALM):
        await world.round(CALM)
    captured = await shop.pool.fetch("SELECT FROM recharge_attempts WHERE state = 'succeeded'")
    broken = [f"seed {run.seed}: {found}" for run in runs for found in await violations(run)]
    async with shop.pool.acquire() as connection:
        verified = await verification.verify(connection)
    assert broken == [], "run one alone with --recharge-seed=… --recharge-runs=1"
    assert verified["ok"], verified["problems"]
    assert unexpected == []
    if len(seeds) == RUNS_AT_ONCE:
        assert min(world.deaths, len(captured)) > RUNS_AT_ONCE // 4, "there was little trouble"
    events = await shop.pool.fetch("SELECT state FROM stripe_events GROUP BY 1")
    assert {row["state"] for row in events} <= {"applied", "ignored"}


async def violations(run: Run) -> list[str]:
    """Say which invariants a run broke."""
    attempts = await run.shop.attempts()
    intents = await intents_of(run)
    return [
        *captured_twice_or_not_credited(attempts, intents),
        *created_twice(intents),
        *suspended_by_our_fault(await run.shop.settings()),
        *older_than_its_deadline(attempts),
        *credited_otherwise(await credits_of(run), intents),
        *unsettled(attempts, intents),
        *declined_too_often(run, attempts, await run.shop.settings()),
        *declined_and_forgotten(attempts, intents),
    ]


def captured_twice_or_not_credited(attempts: list[Any], intents: list[Any]) -> list[str]:
    paid = [one.metadata["recharge_attempt_id"] for one in intents if one.status == "succeeded"]
    done = [str(row["id"]) for row in attempts if row["state"] == AttemptState.SUCCEEDED]
    return [] if sorted(paid) == sorted(done) else [f"captured {paid}, succeeded {done}"]


def created_twice(intents: list[Any]) -> list[str]:
    """Name attempts of which Stripe has more than one PaymentIntent, whatever answers were lost."""
    counted = Counter(one.metadata["recharge_attempt_id"] for one in intents)
    return [
        f"attempt {one} has {count} PaymentIntents" for one, count in counted.items() if count > 1
    ]


def suspended_by_our_fault(found: Any) -> list[str]:
    """Name a suspension that no card and no customer of these runs gives a reason for."""
    ours = {SuspensionReason.CHARGE_REFUSED, SuspensionReason.NO_CARD}
    return [f"suspended for {found.reason}: {found.detail}"] if found.reason in ours else []


def older_than_its_deadline(attempts: list[Any]) -> list[str]:
    """Name attempts that lived for longer than every deadline on their way, and a look each."""
    longest = UNANSWERED_MAX + LINK_LIFETIME + 2 * CALM
    return [
        f"attempt {row['id']} ended after {row['settled_at'] - row['charged_at']}"
        for row in attempts
        if row["charged_at"] and row["settled_at"] - row["charged_at"] > longest
    ]


def credited_otherwise(credited: dict[str, Decimal], intents: list[Any]) -> list[str]:
    money = {one.id: Decimal(one.amount_received) / 100 for one in intents if one.amount_received}
    return [] if credited == money else [f"captured {money}, credited {credited}"]


def unsettled(attempts: list[Any], intents: list[Any]) -> list[str]:
    """Name attempts that live still, and payments that could still charge."""
    ended = {"succeeded", "canceled", "requires_confirmation"}
    live = [f"attempt {r['id']} is {r['state']}" for r in attempts if r["settled_at"] is None]
    return live + [f"{one.id} is {one.status}" for one in intents if one.status not in ended]


def declined_too_often(run: Run, attempts: list[Any], found: Any) -> list[str]:
    failed = [row for row in attempts if row["state"] == AttemptState.FAILED]
    problems = []
    if len(failed) > DECLINES_MAX:
        problems.append(f"declined {len(failed)} times")
    if run.card == "lost" and len(failed) > 1:
        problems.append("tried again after a hard decline")
    if run.card in DECLINING and found.declines_in_row != len(failed):
        problems.append(f"declined {len(failed)} times, counted {found.declines_in_row}")
    if run.card == "asks" and not run.authenticates and found.state is not RechargeState.SUSPENDED:
        problems.append(f"nobody authenticated, and it is {found.state}")
    return problems


def declined_and_forgotten(attempts: list[Any], intents: list[Any]) -> list[str]:
    """Name payments that Stripe refused, and whose attempt does not say so."""
    failed = {row["payment_intent_id"] for row in attempts if row["state"] == AttemptState.FAILED}
    refused = [one for one in intents if one.last_payment_error is not None]
    asked = {one.id for one in refused if one.last_payment_error.code == "authentication_required"}
    return [f"{one.id} was refused" for one in refused if one.id not in failed | asked]


async def intents_of(run: Run) -> list[Any]:
    page = await run.shop.client.v1.payment_intents.list_async(
        {"customer": run.customer_id, "limit": 100}
    )
    assert not page.has_more
    return page.data


async def credits_of(run: Run) -> dict[str, Decimal]:
    rows = await run.shop.pool.fetch(
        "SELECT payment_intent_id, sum(amount) AS amount FROM credit_transactions"
        " WHERE organization_id = $1 AND type = 'recharge' GROUP BY 1",
        run.shop.owner.id,
    )
    return {row["payment_intent_id"]: row["amount"] for row in rows}
