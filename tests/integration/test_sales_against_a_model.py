"""Any order, duplication and loss of Stripe's events, then a replay: each payment has its credits.

The model of a payment is one line: what its net price buys, less the share of the gross amount that
Stripe says went back, and nothing at all for a payment that nobody claimed. Payments, taxes,
refunds, disputes and their events are made by the simulator.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sandbox.stripe.process import SimulatorProcess
from shared.db.pool import create_pool
from shared.ledger.verification import verify
from shared.organizations import service as organizations
from shared.payments.client import stripe_client
from shared.payments.customers import bind_customers
from shared.payments.model import SaleTerms
from shared.replay.service import Replayer
from tests.fixtures.profile import cases
from tests.fixtures.storefront import Storefront

if TYPE_CHECKING:
    from shared.db.pool import Pool

RATE = Decimal(3)
QUANTUM = Decimal("1e-9")
_names = itertools.count()


@dataclass(frozen=True)
class Plan:
    """One payment: how it is opened, what it costs, who claims it, and what goes back of it."""

    via: str
    price: int
    tax: str
    claim: str
    back: str


PLANS = st.builds(
    Plan,
    via=st.sampled_from(["session", "charge", "invoice"]),
    price=st.sampled_from([500, 999, 2500, 10_007]),
    tax=st.sampled_from(["none", "exclusive", "inclusive"]),
    claim=st.sampled_from(["payment", "session", "reference", "customer", "late name", "nobody"]),
    back=st.sampled_from(["nothing", "part", "two parts", "all", "inquiry", "dispute", "won"]),
)


@dataclass
class Payment:
    """What became of a plan at Stripe, and what it must come to here."""

    id: str
    gross: int
    credits: Decimal | None  # None: nobody claims it
    returned: int = 0

    @property
    def expected(self) -> Decimal | None:
        if self.credits is None:
            return None
        if self.returned >= self.gross:
            return Decimal(0)
        share = (self.credits * self.returned / self.gross).quantize(QUANTUM, ROUND_FLOOR)
        return self.credits - share


@dataclass
class World:
    """An organization, one that is created late, and the payments of one example."""

    storefront: Storefront
    slug: str
    customer: str
    customers_count: bool
    payments: list[Payment] = field(default_factory=list)

    @property
    def late_slug(self) -> str:
        return f"{self.slug}-late"

    async def apply_plan(self, plan: Plan) -> None:
        payment = await getattr(self, f"_{plan.via}")(plan)
        self.payments.append(payment)
        await self._give_back(payment, plan.back)

    def _metadata(self, plan: Plan, where: str) -> dict[str, str]:
        if plan.claim == "late name":
            return {"organization_id": self.late_slug}
        return {"organization_id": self.slug} if plan.claim == where else {}

    def _is_claimed(self, plan: Plan) -> bool:
        if plan.claim == "customer":
            return self.customers_count
        return plan.claim != "nobody"

    async def _session(self, plan: Plan) -> Payment:
        of_payment = self._metadata(plan, "payment")
        changes: dict[str, Any] = {
            "metadata": self._metadata(plan, "session"),
            "payment_intent_data": {"metadata": of_payment},
        }
        if plan.claim == "reference":
            changes["client_reference_id"] = self.slug
        if plan.claim == "customer":
            changes["customer"] = self.customer
        if plan.tax != "none":
            changes |= {
                "automatic_tax": {"enabled": True},
                "price_data": {"tax_behavior": plan.tax},
            }
        session_id = await self.storefront.open(price=plan.price, **changes)
        payment_id = await self.storefront.pay(session_id)
        session = await self.storefront.client.v1.checkout.sessions.retrieve_async(session_id)
        assert session.amount_total is not None
        assert session.total_details is not None
        net = session.amount_total - session.total_details.amount_tax
        return self._sold(plan, payment_id, session.amount_total, Decimal(net) / 100 * RATE)

    async def _charge(self, plan: Plan) -> Payment:
        changes: dict[str, Any] = {"metadata": self._metadata(plan, "payment")}
        if plan.claim == "customer":
            changes["customer"] = self.customer
        payment_id = await self.storefront.charge(plan.price, **changes)
        # A PaymentIntent has no session and no reference, so that those claims are nobody's.
        if plan.claim in {"session", "reference"}:
            return Payment(payment_id, plan.price, None)
        return self._sold(plan, payment_id, plan.price, Decimal(plan.price) / 100 * RATE)

    async def _invoice(self, plan: Plan) -> Payment:
        """Pay an invoice that says what it brings; only that counts, not who pays."""
        v1 = self.storefront.client.v1
        params: Any = {"customer": self.customer, "amount": plan.price, "currency": "usd"}
        await v1.invoice_items.create_async(params)
        says = plan.claim in {"payment", "session", "reference", "customer"}
        metadata = {"prepaid_credits": "120.5"} if says else {}
        invoice = await v1.invoices.create_async(
            {
                "customer": self.customer,
                "metadata": metadata,
                "pending_invoice_items_behavior": "include",
            }
        )
        await v1.invoices.pay_async(invoice.id)
        found = await v1.invoice_payments.list_async({"invoice": invoice.id})
        paid_by = found.data[0].payment.payment_intent
        assert isinstance(paid_by, str)
        return Payment(paid_by, plan.price, Decimal("120.5") if says else None)

    def _sold(self, plan: Plan, payment_id: str, gross: int, credits_: Decimal) -> Payment:
        return Payment(payment_id, gross, credits_ if self._is_claimed(plan) else None)

    async def _give_back(self, payment: Payment, back: str) -> None:
        match back:
            case "part" | "two parts":
                for _ in range(1 if back == "part" else 2):
                    await self.storefront.refund(payment.id, payment.gross // 3)
                    payment.returned += payment.gross // 3
            case "all":
                await self.storefront.refund(payment.id)
                payment.returned = payment.gross
            case "inquiry":
                await self.storefront.dispute(payment.id, inquiry=True)
            case "dispute" | "won":
                dispute_id = await self.storefront.dispute(payment.id)
                payment.returned = payment.gross
                if back == "won":
                    await self.storefront.sim(f"disputes/{dispute_id}/close", outcome="won")
                    payment.returned = 0

    async def create_late_organization(self) -> None:
        pool = self.storefront.pool
        async with pool.acquire() as connection, connection.transaction():
            await organizations.create(connection, slug=self.late_slug, name=self.late_slug)

    async def credited(self) -> dict[str, Decimal]:
        """Return what the ledger has of each payment, by the rows that name it."""
        rows = await self.storefront.pool.fetch(
            "SELECT payment_intent_id, sum(amount) AS amount FROM credit_transactions"
            " WHERE payment_intent_id = any($1) GROUP BY 1",
            [payment.id for payment in self.payments],
        )
        return {row["payment_intent_id"]: row["amount"] for row in rows}


async def new_world(storefront: Storefront, *, customers_count: bool) -> World:
    slug = f"shop-{next(_names)}"
    v1 = storefront.client.v1
    customer = (await v1.customers.create_async({"name": slug})).id
    method = await v1.payment_methods.attach_async("pm_card_visa", {"customer": customer})
    await v1.customers.update_async(
        customer, {"invoice_settings": {"default_payment_method": method.id}}
    )
    async with storefront.pool.acquire() as connection, connection.transaction():
        made = await organizations.create(connection, slug=slug, name=slug)
        await bind_customers(connection, {made.id: customer})
    await storefront.events()  # what was set up is not what is lost
    storefront.terms = SaleTerms(RATE, credit_customer_payments=customers_count)
    return World(storefront, slug, customer, customers_count)


async def check(world: World, plans: list[Plan], random: Random) -> None:
    storefront = world.storefront
    for plan in plans:
        await world.apply_plan(plan)
    bodies: list[bytes] = []
    while new := await storefront.events():
        bodies += new
    # Any order, some twice, some never.
    lost = [body for body in bodies if random.random() < 0.3]
    sent = [body for body in bodies if body not in lost]
    sent += random.sample(sent, len(sent) // 3)
    random.shuffle(sent)
    half = len(sent) // 2
    await storefront.deliver(*sent[:half])
    await world.create_late_organization()
    for body in sent[half:]:
        await storefront.deliver(body)
    await _replay(storefront, sent)
    found = await world.credited()
    expected = {payment.id: payment.expected for payment in world.payments}
    for payment_id, amount in found.items():
        assert amount == expected[payment_id], (payment_id, plans)
    # What never arrived is found in Stripe's list and applied, and then nothing is missing.
    await storefront.deliver(*lost)
    await _replay(storefront, bodies)
    assert await world.credited() == {
        payment_id: amount for payment_id, amount in expected.items() if amount is not None
    }, plans
    rows = len(await storefront.pool.fetch("SELECT FROM credit_transactions"))
    await _replay(storefront, bodies)
    assert len(await storefront.pool.fetch("SELECT FROM credit_transactions")) == rows


async def _replay(storefront: Storefront, bodies: list[bytes]) -> None:
    """Replay events an hour later: whatever was lost in between, Stripe is asked for the level."""
    ids = {str(msgspec.json.decode(body)["id"]) for body in bodies}
    applier = storefront.applier_at(datetime.now(UTC) + timedelta(hours=1))
    await Replayer(storefront.pool, applier, uuid4).replay(
        sorted(ids), actor="test", reason="all of them"
    )


@asynccontextmanager
async def _opened(database_url: str, state: Path) -> AsyncIterator[Storefront]:
    process = SimulatorProcess(state)
    async with AsyncExitStack() as stack:
        pool: Pool = await stack.enter_async_context(
            create_pool(database_url, size=4, application_name="prepaid-model")
        )
        await process.start()
        stack.push_async_callback(process.stop)
        client = await stack.enter_async_context(stripe_client("sk_test_123", process.url))
        http = await stack.enter_async_context(aiohttp.ClientSession(process.url))
        yield Storefront(pool, client, http, SaleTerms(RATE))


@pytest.fixture
def running(database_url: str, tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Storefront]]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opened = _opened(database_url, tmp_path / "stripe.sqlite")
        storefront = runner.run(opened.__aenter__())
        try:
            yield runner, storefront
        finally:
            runner.run(opened.__aexit__(None, None, None))


def test_any_order_duplication_and_loss_of_events_leaves_each_payment_its_credits(
    running: tuple[asyncio.Runner, Storefront],
) -> None:
    runner, storefront = running

    @settings(
        max_examples=cases(quick=8, thorough=25),
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        plans=st.lists(PLANS, min_size=1, max_size=4),
        customers_count=st.booleans(),
        seed=st.integers(0, 2**32),
    )
    def examples(plans: list[Plan], customers_count: bool, seed: int) -> None:
        async def run() -> None:
            world = await new_world(storefront, customers_count=customers_count)
            await check(world, plans, Random(seed))  # noqa: S311 - no secret

        runner.run(run())

    examples()
    report = runner.run(_verify(storefront))
    assert report == []


async def _verify(storefront: Storefront) -> list[Any]:
    async with storefront.pool.acquire() as connection:
        report = await verify(connection, None)
    return report["problems"]
