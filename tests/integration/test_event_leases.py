"""A lease is short, and whoever works on its events keeps it; it ends with its worker alone."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from shared.events.service import Applier
from shared.inbox import store
from tests.fixtures.product import LEASE, balance, event_row, payment, receive, until
from tests.integration.invoices import reversal
from worker import lease_renewal
from worker.drainer import Drainer
from worker.sweeper import Sweeper

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from shared.db.pool import Pool
    from shared.inbox.model import ClaimedEvent
    from shared.organizations.model import Organization
    from shared.payments.lookup import StripeLookup
    from tests.fixtures.stripe_answers import StripeAnswers

SHORT = timedelta(seconds=1)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have leases renewed every tenth of a second."""
    monkeypatch.setattr(lease_renewal, "RENEWALS_A_LEASE", LEASE.total_seconds() * 10)


HOUR_SECONDS = 3600.0


class Held(Applier):
    """An applier that begins with its first batch when it is told to."""

    begin: asyncio.Event

    async def apply_without_asking(
        self, token: UUID, events: Sequence[ClaimedEvent], kept: timedelta = LEASE
    ) -> bool:
        await self.begin.wait()
        return await super().apply_without_asking(token, events, kept)


def held(applier: Applier, begin: asyncio.Event) -> Applier:
    class HeldUntil(Held):
        pass

    HeldUntil.begin = begin
    return HeldUntil(applier.pool, applier.terms)


async def lease_ends(pool: Pool) -> datetime:
    ends: datetime = await pool.fetchval("SELECT min(available_at) FROM stripe_events")
    return ends


async def until_renewed(pool: Pool, *, times: int) -> None:
    for _ in range(times):
        ends = await lease_ends(pool)

        async def later(ends: datetime = ends) -> bool:
            return await lease_ends(pool) > ends

        await until(later)


async def claimed(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT count(lease_token) FROM stripe_events"))


@pytest.mark.usefixtures("often")
async def test_a_batch_keeps_its_lease_while_its_worker_lives(
    pool: Pool, organization: Organization, applier: Applier
) -> None:
    begin = asyncio.Event()
    slow = Drainer(pool, held(applier, begin), make_token=uuid4, lease=LEASE)
    other = Drainer(pool, applier, make_token=uuid4)
    await receive(pool, payment("1"), payment("2"))
    draining = asyncio.create_task(slow.drain_new())
    await until(lambda: claimed(pool))
    await until_renewed(pool, times=2)
    assert await other.drain() == 0
    begin.set()
    assert await draining == 2
    assert await balance(pool) == 20
    row = await event_row(pool, "evt_1")
    assert (row["attempts"], row["leases_lost"], row["lease_token"]) == (1, 0, None)


@pytest.mark.usefixtures("often")
async def test_events_keep_their_lease_while_stripe_takes_its_time(
    pool: Pool,
    organization: Organization,
    lookup: StripeLookup,
    applier: Applier,
    stripe_answers: StripeAnswers,
) -> None:
    stripe_answers.pay()
    stripe_answers.refund(400)
    stripe_answers.gate.clear()
    await receive(pool, reversal())
    asking = Applier(pool, applier.terms, lookup=lookup)
    slow = Drainer(pool, asking, make_token=uuid4, lease=LEASE)
    draining = asyncio.create_task(slow.drain())

    async def asked() -> bool:
        return bool(stripe_answers.asked)

    await until(asked)
    await until_renewed(pool, times=2)
    assert await Drainer(pool, asking, make_token=uuid4).drain() == 0
    stripe_answers.gate.set()
    await draining
    assert await balance(pool) == 6
    assert await pool.fetchval("SELECT leases_lost FROM stripe_events") == 0


async def test_a_lease_that_hangs_is_renewed_for_a_while_alone(
    pool: Pool, organization: Organization, applier: Applier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker lives, and its batch never goes on: another worker applies the events."""
    monkeypatch.setattr(lease_renewal, "RENEWED_SECONDS_MAX", SHORT.total_seconds())
    begin = asyncio.Event()
    hanging = Drainer(pool, held(applier, begin), make_token=uuid4, lease=SHORT)
    await receive(pool, payment("1"))
    draining = asyncio.create_task(hanging.drain_new())
    await until(lambda: claimed(pool))
    other = Drainer(pool, applier, make_token=uuid4)

    async def taken_over() -> bool:
        return await other.drain() == 1

    await until(taken_over)
    begin.set()
    await draining
    assert await balance(pool) == 10


async def test_only_the_holder_keeps_a_lease_and_waits_for_no_row(
    pool: Pool, organization: Organization
) -> None:
    await receive(pool, payment("1"), payment("2"))
    token = uuid4()
    async with pool.acquire() as connection, pool.acquire() as other:
        events = await store.claim(connection, rows_max=2, token=token, lease=SHORT)
        ends = await lease_ends(pool)
        keys = [event.key for event in events]
        await store.keep(connection, uuid4(), keys, LEASE)
        assert await lease_ends(pool) == ends
        async with other.transaction():
            await other.execute("SELECT FROM stripe_events WHERE id = 'evt_1' FOR UPDATE")
            await store.keep(connection, token, keys, LEASE)
        assert (await event_row(pool, "evt_1"))["available_at"] == ends
        assert (await event_row(pool, "evt_2"))["available_at"] > ends


async def test_the_end_of_a_lease_is_noticed_before_the_next_sweep(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    """The worker that leased it is dead. The next sweep would be in an hour."""
    await receive(pool, payment("1"))
    async with pool.acquire() as connection:
        await store.claim(connection, rows_max=1, token=uuid4(), lease=SHORT)
    stop = asyncio.Event()
    sweeping = asyncio.create_task(Sweeper(drainer, HOUR_SECONDS).run(stop))

    async def applied() -> bool:
        return bool((await event_row(pool, "evt_1"))["state"] == "applied")

    await until(applied)
    stop.set()
    await sweeping
