"""From the debit that takes a balance below its threshold to the credited recharge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from bench.results import Ratio, percentile
from bench.setting import create_organization
from sandbox.product import WorkerProcess
from sandbox.stripe.process import SimulatorProcess
from shared.db.pool import connect
from shared.ids import new_id
from shared.ledger import service as ledger
from shared.ledger.model import Posting, SystemAccount, TransactionType
from shared.payments.client import stripe_client
from shared.payments.payment_intents import ChargeRequest, Intent, PaymentIntentGateway
from shared.recharge import service
from shared.recharge.model import Rule

if TYPE_CHECKING:
    import stripe

    from shared.db.pool import Connection

RECHARGES = 100
ROUND_TRIPS = 200
RULE = Rule(threshold=Decimal(10), amount=Decimal(20), pause_seconds_min=0)
POLL_SECONDS = 0.0005


async def measure(environment: Mapping[str, str], folder: Path) -> list[Ratio]:
    """Measure recharges one after the other, each of an organization of its own."""
    simulator = SimulatorProcess(folder / "recharge.sqlite")
    url = await simulator.start()
    worker = WorkerProcess({**environment, "STRIPE_API_BASE": url}, folder / "recharge.log")
    connection = await connect(environment["DATABASE_URL"], application_name="prepaid-bench")
    try:
        await worker.start()
        async with stripe_client(environment["STRIPE_API_KEY"], url) as client:
            owners = [
                await _shopper(environment["DATABASE_URL"], connection, client, f"recharge-{n}")
                for n in range(RECHARGES)
            ]
            customer_id, method_id = await _card(client)
            trips = [await _round_trip(client, customer_id, method_id) for _ in range(ROUND_TRIPS)]
            seconds = [await _recharge(connection, owner) for owner in owners]
    finally:
        await connection.close()
        await worker.stop()
        await simulator.stop()
    trip, recharge = percentile(trips, 0.5), percentile(seconds, 0.5)
    return [
        Ratio(
            "low balance to credited p50 / a request to the simulator p50",
            f"{recharge * 1e3:.1f} ms",
            f"{trip * 1e3:.1f} ms",
            recharge / trip,
            10,
            at_most=True,
        )
    ]


async def _card(client: stripe.StripeClient) -> tuple[str, str]:
    customer = await client.v1.customers.create_async({"name": "Bench"})
    method = await client.v1.payment_methods.attach_async("pm_card_visa", {"customer": customer.id})
    return customer.id, method.id


async def _shopper(
    database_url: str, connection: Connection, client: stripe.StripeClient, slug: str
) -> UUID:
    owner = UUID(await create_organization(database_url, slug))
    customer_id, method_id = await _card(client)
    await connection.execute(
        "INSERT INTO payment_methods (id, organization_id, customer_id, type, as_of)"
        " VALUES ($1, $2, $3, 'card', now())",
        method_id,
        owner,
        customer_id,
    )
    async with connection.transaction():
        await service.configure(
            connection,
            owner,
            RULE,
            currency="usd",
            credits_per_unit=Decimal(1),
            units_max=Decimal(10_000),
            consented_by="bench",
            actor="bench",
            now=datetime.now(UTC),
        )
    await _post(connection, owner, TransactionType.GRANT, SystemAccount.PROMOTIONS, Decimal(12))
    return owner


async def _post(
    connection: Connection,
    owner: UUID,
    kind: TransactionType,
    counterparty: SystemAccount,
    amount: Decimal,
) -> None:
    posting = Posting(
        organization_id=owner,
        id=new_id(),
        type=kind,
        counterparty=counterparty,
        key=str(kind),
        amount=amount,
    )
    (result,) = await ledger.post(connection, [posting])
    assert result.status == "posted", result


async def _round_trip(client: stripe.StripeClient, customer_id: str, method_id: str) -> float:
    """Return the seconds of one request that writes: creating a PaymentIntent."""
    charge = ChargeRequest(
        attempt_id=new_id(),
        organization_id=new_id(),
        trigger="threshold",
        amount_minor=2000,
        currency="usd",
        customer_id=customer_id,
        payment_method_id=method_id,
        payment_method_type="card",
    )
    started = time.perf_counter()
    answer = await PaymentIntentGateway(client).create(charge, key=str(charge.attempt_id))
    assert isinstance(answer, Intent), answer
    return time.perf_counter() - started


async def _recharge(connection: asyncpg.Connection[asyncpg.Record], owner: UUID) -> float:
    started = time.perf_counter()
    await _post(connection, owner, TransactionType.USAGE, SystemAccount.REVENUE, Decimal(-5))
    while not await connection.fetchval(  # noqa: ASYNC110 - another process works
        "SELECT settled_at IS NOT NULL FROM recharge_attempts WHERE organization_id = $1", owner
    ):
        await asyncio.sleep(POLL_SECONDS)
    elapsed = time.perf_counter() - started
    state = await connection.fetchval(
        "SELECT state FROM recharge_attempts WHERE organization_id = $1", owner
    )
    assert state == "succeeded", state
    return elapsed
