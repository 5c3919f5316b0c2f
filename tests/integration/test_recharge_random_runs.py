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
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import pytest_asyncio
import structlog

from shared.ids import new_id
from shared.ledger import verification
from shared.payments.payment_intents import Intent, PaymentIntentGateway
from shared.recharge.model import AttemptState, RechargeState, Rule, SuspensionReason
from shared.recharge.states import LINK_LIFETIME, UNANSWERED_MAX
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.product import create_organization, receive
from tests.fixtures.receiver import Receiver
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    import asyncpg

    from worker.drainer import Drainer

RUNS_AT_ONCE = 100
WORKERS = 2
ROUNDS_OF_TROUBLE = 5
ROUNDS_OF_CALM = 12
CALM = timedelta(hours=7)
DECLINES_MAX = 3

# Test ids, and the number that the saved card behaves as from then on where it must differ.
CARDS: dict[str, tuple[str, str | None, int]] = {
    "good": ("pm_card_visa", None, 8),
    "soft": ("pm_card_chargeCustomerFail", None, 2),
    "poor": ("pm_card_visa", "4000000000009995", 1),
    "lost": ("pm_card_visa", "4000000000009987", 2),
    "asks": ("pm_card_authenticationRequired", None, 4),
    "bank": ("pm_usBankAccount_success", None, 2),
    "no bank": ("pm_usBankAccount_noAccount", None, 1),
}
DECLINING = {"soft", "poor", "lost", "no bank"}
REQUESTS = [
    ("POST", "/v1/payment_intents"),
    ("POST", "/v1/payment_intents/*/confirm"),
    ("GET", "/v1/payment_intents/*"),
    ("POST", "/v1/payment_intents/*/cancel"),
]
ON_ANSWERS = [
    "answer_lost", "cut_mid_body", "error_500", "error_500_after", "rate_limited", "refused",
    "conflict_409", "slow", "unauthorized_401", "forbidden_403", "bad_parameter_400",
]  # fmt: skip
ON_WEBHOOKS = ["dropped", "duplicated", "never_generated", "shuffled"]
EVENTS = ["succeeded", "payment_failed", "canceled", "processing", "requires_action"]


class DeathError(Exception):
    """The process ends here."""


@dataclass
class Run:
    """One organization, and all that will happen to it."""

    seed: int
    random: Random
    shop: Shop
    card: str
    customer_id: str = ""
    deaths_left: int = 0
    authenticates: bool = False

    async def post_usage(self, most: int) -> None:
        amount = Decimal(self.random.randint(0, most * 100)) / 100
        if amount:
            await post(self.shop.pool, usage(self.shop.owner, amount, may_overdraw=True))

    async def wish_faults(self) -> None:
        """Ask the simulator for what will go wrong."""
        random = self.random
        for _ in range(random.choice([0, 1, 1, 2, 3])):
            method, path = random.choice(REQUESTS)
            await self.shop.sim(
                "faults", method=method, path=path, customer=self.customer_id,
                fault=random.choice(ON_ANSWERS), times=random.randint(1, 2),
                skip=random.choice([0, 0, 1]), seconds=0.02,
            )  # fmt: skip
        if random.random() < 0.5:
            await self.shop.sim(
                "faults", event="payment_intent.*", customer=self.customer_id,
                fault=random.choice(ON_WEBHOOKS), times=random.randint(1, 4), seed=self.seed,
            )  # fmt: skip


@dataclass
class World:
    """A hundred runs, and the workers that serve them."""

    shop: Shop
    drainer: Drainer
    receiver: Receiver
    random: Random
    runs: dict[UUID, Run]
    troubled: bool = True
    delivered: int = 0
    deaths: int = 0

    async def step(self) -> None:
        """Stand between two steps of a worker: it may die here, or its lease may end."""
        name = structlog.contextvars.get_contextvars().get("organization_id")
        if name is None or not self.troubled:
            return
        run = self.runs[UUID(name)]
        chance = run.random.random()
        if chance < 0.2 and run.deaths_left:
            run.deaths_left -= 1
            self.deaths += 1
            raise DeathError
        if chance > 0.9:
            await end_leases(run.shop, run.shop.owner.id)

    def dies(self) -> None:
        """Die inside of a transaction or just before it."""
        name = structlog.contextvars.get_contextvars().get("organization_id")
        run = self.runs[UUID(name)] if name and self.troubled else None
        if run is not None and run.deaths_left and run.random.random() < 0.1:
            run.deaths_left -= 1
            self.deaths += 1
            raise DeathError

    async def work(self) -> None:
        """Work on everything that is due, as one process."""
        charges: Any = Stepping(self.shop.charger.gateway, self)
        charger = replace(
            self.shop.charger, gateway=charges, now=self.dying_now, make_id=self.dying_id
        )
        while await charger.work():
            continue

    async def work_until_killed(self) -> None:
        """Work as one process that may be killed in the middle of everything."""
        working = asyncio.create_task(self.work())
        if self.troubled and self.random.random() < 0.5:
            await asyncio.wait({working}, timeout=self.random.random() / 5)
            working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    def dying_now(self) -> Any:
        self.dies()
        return self.shop.clock()

    def dying_id(self) -> UUID:
        self.dies()
        return new_id()

    async def round(self, passes: timedelta) -> None:
        """Let time pass; do all that is due, webhooks meanwhile."""
        self.shop.clock.now += passes
        await end_leases(self.shop, None)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WORKERS):
                tasks.create_task(self.work_until_killed())
            tasks.create_task(self.hear())
        await self.hear()
        await self.live()

    async def hear(self) -> None:
        """Take what webhooks came, some twice, some later, in any order, and apply them."""
        await self.shop.sim("deliveries/flush")
        came = self.receiver.received[self.delivered :]
        self.delivered += len(came)
        bodies = [one.body.encode() for one in came for _ in range(self.random.choice([1, 1, 2]))]
        self.random.shuffle(bodies)
        late = len(bodies) // 4 if self.troubled else 0
        for body in bodies[late:]:
            await receive(self.shop.pool, body)
        await self.shop.pool.execute(
            "UPDATE stripe_events SET available_at = now() WHERE state = 'retrying'"
        )
        await asyncio.gather(self.drainer.drain(), self.drainer.drain())
        for body in bodies[:late]:
            await receive(self.shop.pool, body)

    async def live(self) -> None:
        """Let the customers who will authenticate do so, and the banks answer."""
        waiting = await self.shop.pool.fetch(
            "SELECT * FROM recharge_attempts WHERE state IN ('requires_action', 'processing')"
        )
        for row in waiting:
            run = self.runs[row["organization_id"]]
            if self.troubled and run.random.random() < 0.5:
                continue
            if run.card == "asks" and run.authenticates:
                await authenticate(run.shop, row)
            elif row["state"] == "processing":
                await settle(run.shop, row["payment_intent_id"])


class Stepping:
    """Stripe, with a step before each request and after its answer."""

    def __init__(self, real: PaymentIntentGateway, world: World) -> None:
        self._real = real
        self._world = world

    def __getattr__(self, name: str) -> Any:
        async def asked(*args: Any, **named: Any) -> Any:
            await self._world.step()
            answer = await getattr(self._real, name)(*args, **named)
            await self._world.step()
            return answer

        return asked


async def end_leases(shop: Shop, organization_id: UUID | None) -> None:
    await shop.pool.execute(
        "UPDATE recharge_attempts SET due_at = now()"
        " WHERE settled_at IS NULL AND ($1::uuid IS NULL OR organization_id = $1)",
        organization_id,
    )


async def authenticate(shop: Shop, attempt: asyncpg.Record) -> None:
    intent_id = attempt["payment_intent_id"]
    await PaymentIntentGateway(shop.client).confirm_with_customer(
        intent_id, attempt["payment_method_id"], return_url="https://a.test/"
    )
    if await is_now(shop, intent_id, "requires_action"):
        await shop.sim(f"payment_intents/{intent_id}/authenticate", passed=True)


async def settle(shop: Shop, intent_id: str) -> None:
    if await is_now(shop, intent_id, "processing"):
        await shop.sim(f"payment_intents/{intent_id}/settle")


async def is_now(shop: Shop, intent_id: str, status: str) -> bool:
    """Tell whether it is; a fault may befall this answer too."""
    answer = await PaymentIntentGateway(shop.client).retrieve(intent_id)
    return isinstance(answer, Intent) and answer.status == status


def make_rule(random: Random) -> Rule:
    amount = Decimal(random.randint(50, 5000)) / 100
    by_amount = random.random() < 0.7
    return Rule(
        threshold=Decimal(10),
        amount=amount if by_amount else None,
        target=None if by_amount else 10 + amount,
        monthly_cap=random.choice([None, None, amount * random.randint(1, 5)]),
        monthly_count_cap=random.choice([None, None, random.randint(1, 4)]),
        pause_seconds_min=0,
    )


async def start(seed: int, shop: Shop) -> Run:
    """Make an organization that is below its threshold."""
    random = Random(seed)  # noqa: S311 - a seed
    names = list(CARDS)
    card = random.choices(names, [CARDS[name][2] for name in names])[0]
    owner = await create_organization(shop.pool, f"run-{seed}")
    run = Run(seed, random, replace(shop, owner=owner), card)
    run.deaths_left = random.choice([0, 1, 2, 4])
    run.authenticates = random.random() < 0.6
    token, number, _ = CARDS[card]
    run.customer_id = await run.shop.save_card(token)
    if number is not None:
        saved = "SELECT id FROM payment_methods WHERE organization_id = $1"
        method_id = await shop.pool.fetchval(saved, owner.id)
        await shop.sim(f"payment_methods/{method_id}/card", card=number)
    await run.shop.agree(make_rule(random))
    await run.wish_faults()
    await post(shop.pool, grant(owner, 12))
    await post(shop.pool, usage(owner, 5))
    return run


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
