"""How many round trips to PostgreSQL the events of payments take: their latency follows it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast
from uuid import uuid4

import pytest

from shared.events.nodes import NodeBatches
from shared.ids import transaction_public_id
from tests.fixtures.outbound_messages import add
from tests.fixtures.product import balance, event_states, payment, receive, transactions
from tests.integration.events import CUSTOMER, open_purchase, purchase_state, session
from worker.drainer import Drainer

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection, Pool
    from shared.events.service import Applier
    from shared.organizations.model import Organization

# The claim, BEGIN with the limits of waits, what decides, the credit, the outcome, COMMIT.
LONE_CHECKOUT_ROUND_TRIPS = 6
# How the statements of an event's transaction begin.
OF_THE_TRANSACTION = ("The binding of each payment", "Bind payments", "Record the outcomes")


@dataclass
class RecordingPool:
    """A pool that records each statement that its connections execute."""

    pool: Pool
    statements: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        def record(query: asyncpg.connection.LoggedQuery) -> None:
            self.statements.append(query.query)

        async with self.pool.acquire() as connection:
            with cast("asyncpg.Connection[asyncpg.Record]", connection).query_logger(record):
                yield connection


@pytest.fixture
def recording(pool: Pool) -> RecordingPool:
    return RecordingPool(pool)


@pytest.fixture
def recorded_drainer(recording: RecordingPool, applier: Applier) -> Drainer:
    pool = cast("Pool", recording)
    return Drainer(pool, replace(applier, pool=pool), make_token=uuid4)


async def warm_up(pool: Pool, recording: RecordingPool, drainer: Drainer) -> None:
    """Apply a checkout: the first statements of a connection ask for types as well."""
    await receive(pool, session("0"))
    await drainer.drain_new()
    recording.statements.clear()


async def test_a_lone_paid_checkout_takes_six_round_trips(
    pool: Pool, organization: Organization, recording: RecordingPool, recorded_drainer: Drainer
) -> None:
    await warm_up(pool, recording, recorded_drainer)
    await add(pool, "https://app.example/hook")
    purchase = await open_purchase(pool, organization, "1")
    await receive(pool, session("1"))
    await recorded_drainer.drain_new()
    assert await balance(pool) == 20
    assert await purchase_state(pool, purchase) == "paid"
    message = json.loads(await pool.fetchval("SELECT payload FROM outbound_messages"))
    assert message["type"] == "purchase.completed"
    assert message["data"] == {
        "amountMinor": 1000,
        "balanceAfter": 20,
        "credits": 10,
        "currency": "usd",
        "organizationId": str(organization.id),
        "paymentIntentId": "pi_1",
        "transactionId": transaction_public_id((await transactions(pool))[-1]["id"]),
    }
    assert len(recording.statements) == LONE_CHECKOUT_ROUND_TRIPS, recording.statements


async def test_the_second_event_of_a_payment_takes_no_more(
    pool: Pool, organization: Organization, recording: RecordingPool, recorded_drainer: Drainer
) -> None:
    await warm_up(pool, recording, recorded_drainer)
    await receive(pool, payment("0"))
    await recorded_drainer.drain_new()
    assert set((await event_states(pool)).values()) == {"applied"}
    assert len(recording.statements) == LONE_CHECKOUT_ROUND_TRIPS, recording.statements


async def test_a_checkout_of_a_known_customer_takes_no_more(
    pool: Pool, organization: Organization, recording: RecordingPool, recorded_drainer: Drainer
) -> None:
    await warm_up(pool, recording, recorded_drainer)
    await receive(pool, session("1", customer=CUSTOMER))
    await recorded_drainer.drain_new()
    assert len(recording.statements) > LONE_CHECKOUT_ROUND_TRIPS  # the customer is stored
    recording.statements.clear()
    await receive(pool, session("2", customer=CUSTOMER))
    await recorded_drainer.drain_new()
    assert await balance(pool) == 30
    assert len(recording.statements) == LONE_CHECKOUT_ROUND_TRIPS, recording.statements


async def test_a_batch_of_payments_takes_as_many_as_one(
    pool: Pool, organization: Organization, recording: RecordingPool, recorded_drainer: Drainer
) -> None:
    await warm_up(pool, recording, recorded_drainer)
    names = [str(number) for number in range(1, 21)]
    await receive(pool, *map(session, names), *map(payment, names))
    await recorded_drainer.drain_new()
    assert await balance(pool) == 210
    assert len(recording.statements) == LONE_CHECKOUT_ROUND_TRIPS, recording.statements


async def test_no_statement_of_a_payment_is_planned_for_each_event(
    pool: Pool, organization: Organization, applier: Applier
) -> None:
    drainer = Drainer(pool, replace(applier, nodes=NodeBatches(pool)), make_token=uuid4)
    for number in range(2):
        await receive(pool, session(str(number)))
        await drainer.drain_new()
    async with pool.acquire() as connection:  # the one that was used last
        prepared = await connection.fetch(
            "SELECT statement, generic_plans, custom_plans FROM pg_prepared_statements"
        )
    plans = {
        name: (row["generic_plans"], row["custom_plans"])
        for row in prepared
        for name in OF_THE_TRANSACTION
        if row["statement"].startswith(f"-- {name}")
    }
    assert plans == dict.fromkeys(OF_THE_TRANSACTION, (2, 0))
