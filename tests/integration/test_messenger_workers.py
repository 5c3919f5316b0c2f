"""Messengers at work: leases, a share for each endpoint, a killed worker, a stop, an outage."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from sandbox.product import ProductProcess
from shared import outages
from shared.db.pool import create_pool
from shared.organizations.model import Organization
from shared.outbound import service, store
from shared.outbound.model import DeliveryOutcome, MessageKey, MessageState
from shared.outbound.sender import Sender
from tests.fixtures.outbound_messages import LEASE_OVER, add, announce, only_row, states
from tests.fixtures.product import closed_port, environment
from tests.fixtures.receiver import Clock, Receiver, create_messenger
from worker import messenger as worker_messenger
from worker.messenger import Messenger

if TYPE_CHECKING:
    from shared.db.pool import Pool


async def test_a_slow_endpoint_does_not_keep_another_from_its_messages(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger
) -> None:
    let_go = asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        await let_go.wait()
        return web.Response()

    receiver.by_path["/slow"] = slow
    await add(pool, receiver.url("/slow"))
    await announce(pool, organization, 100)
    await add(pool, receiver.url("/quick"))
    await announce(pool, organization, 20)
    delivering = asyncio.create_task(messenger.deliver())
    await receiver.until(20, "/quick")
    assert len(receiver.of("/slow")) == worker_messenger.UNDER_WAY_PER_ENDPOINT_MAX
    assert not delivering.done()
    let_go.set()
    assert await delivering == 140
    assert await states(pool) == {"delivered": 140}


async def test_a_process_has_only_so_many_attempts_under_way(
    pool: Pool,
    organization: Organization,
    receiver: Receiver,
    messenger: Messenger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_messenger, "UNDER_WAY_MAX", 3)
    under_way, most = 0, 0

    async def count(_request: web.Request) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return web.Response()

    for path in ("/a", "/b", "/c"):
        receiver.by_path[path] = count
        await add(pool, receiver.url(path))
    await announce(pool, organization, 10)
    assert await messenger.deliver() == 30
    assert most <= 3


async def test_two_messengers_at_once_deliver_everything_once_when_nothing_fails(
    pool: Pool, organization: Organization, receiver: Receiver, clock: Clock
) -> None:
    for path in ("/a", "/b", "/c"):
        await add(pool, receiver.url(path))
    sent = await announce(pool, organization, 40)
    async with Sender(allow_private=True) as one, Sender(allow_private=True) as two:
        taken = await asyncio.gather(
            create_messenger(pool, one, clock).deliver(),
            create_messenger(pool, two, clock).deliver(),
        )
    # What the other had under its lease, the first one to end did not wait for.
    assert sum(taken) == len(receiver.received) == 120
    assert {(one.path, one.id) for one in receiver.received} == {
        (path, f"msg_{message.id.hex}") for path in ("/a", "/b", "/c") for message in sent
    }
    assert await states(pool) == {"delivered": 120}


async def test_a_worker_that_is_killed_in_mid_delivery_leaves_a_message_that_is_delivered(
    pool: Pool,
    organization: Organization,
    receiver: Receiver,
    messenger: Messenger,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    never = asyncio.Event()

    async def hang(_request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    receiver.by_path["/hooks"] = hang
    secret = (await add(pool, receiver.url())).secret
    await announce(pool, organization)
    variables = environment(database_url, redis_url) | {"PREPAID_WEBHOOKS_ALLOW_PRIVATE": "1"}
    worker = ProductProcess(["worker"], variables, tmp_path / "worker.log")
    await worker.start(pipe_stdout=True)
    await receiver.until(1, "/hooks")
    worker.kill()
    await worker.wait()
    never.set()

    row = await only_row(pool)
    assert (row["state"], row["attempts"]) == ("pending", 1)
    assert row["lease_token"] is not None
    assert await messenger.deliver() == 0, "the lease is not over"
    await pool.execute(LEASE_OVER)
    assert await messenger.deliver() == 1
    assert await states(pool) == {"delivered": 1}
    first, second = receiver.received
    assert first.id == second.id
    assert second.is_signed_by(secret)


async def test_a_zombie_cannot_settle_after_its_lease_passed_to_another(
    pool: Pool, organization: Organization
) -> None:
    await add(pool, "https://example.com/hooks")
    await announce(pool, organization)
    zombie, heir = UUID(int=1), UUID(int=2)
    async with pool.acquire() as connection:
        for token, lease in ((zombie, timedelta(0)), (heir, timedelta(seconds=30))):
            (claimed,) = await store.claim(
                connection, rows_max=9, per_endpoint_max=9, under_way={}, token=token, lease=lease
            )
        dead = DeliveryOutcome(claimed.key, MessageState.DEAD, 410, "too late")
        assert not await service.finish(connection, zombie, dead, gone=True)
        (endpoint,) = await service.list_endpoints(connection)
        assert endpoint.disabled_at is None
        delivered = DeliveryOutcome(claimed.key, MessageState.DELIVERED, 200)
        assert await service.finish(connection, heir, delivered, gone=False)
        assert not await service.finish(connection, heir, dead, gone=False)
    assert claimed.attempts == 2
    assert await states(pool) == {"delivered": 1}


async def test_a_claim_gives_each_endpoint_what_it_has_room_for_and_the_oldest_first(
    pool: Pool, organization: Organization
) -> None:
    one = (await add(pool, "https://one.example.com")).endpoint.id
    two = (await add(pool, "https://two.example.com")).endpoint.id
    await announce(pool, organization, 5)
    async with pool.acquire() as connection:

        async def claim(rows_max: int, under_way: dict[UUID, int]) -> list[MessageKey]:
            claimed = await store.claim(
                connection,
                rows_max=rows_max,
                per_endpoint_max=3,
                under_way=under_way,
                token=uuid4(),
                lease=timedelta(seconds=30),
            )
            return [message.key for message in claimed]

        keys = await claim(100, {one: 2})
        assert sorted(key.endpoint_id for key in keys) == sorted([one, two, two, two])
        assert await claim(100, {one: 3, two: 4}) == []
        assert len(await claim(1, {})) == 1
        assert len(await claim(100, {one: 0})) == 5


async def test_a_stopped_messenger_takes_no_more_and_ends_what_is_under_way(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger
) -> None:
    stop = asyncio.Event()

    async def stop_meanwhile(_request: web.Request) -> web.Response:
        stop.set()
        messenger.stop()
        return web.Response()

    receiver.by_path["/hooks"] = stop_meanwhile
    await add(pool, receiver.url())
    await announce(pool, organization, 20)
    await messenger.run(stop)
    under_way = worker_messenger.UNDER_WAY_PER_ENDPOINT_MAX
    assert await states(pool) == {"delivered": under_way, "pending": 20 - under_way}
    assert await pool.fetchval("SELECT count(lease_token) FROM outbound_messages") == 0


async def test_postgresql_being_away_is_waited_out() -> None:
    stop, rounds = asyncio.Event(), 0

    def count_round() -> UUID:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            stop.set()
        return uuid4()

    url = f"postgresql://prepaid@127.0.0.1:{closed_port()}/prepaid"
    async with (
        create_pool(url, size=1, application_name="tests") as nowhere,
        Sender(allow_private=True) as sender,
    ):
        outages.POSTGRES.succeeded()
        with capture_logs() as lines:
            await Messenger(nowhere, sender, count_round, interval_seconds=0).run(stop)
        outages.POSTGRES.succeeded()
    assert [line["event"] for line in lines] == ["postgres.unavailable"]


async def test_an_outcome_that_cannot_be_written_is_left_to_the_lease(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger
) -> None:
    await add(pool, receiver.url())
    await announce(pool, organization)
    await pool.execute(
        "ALTER TABLE outbound_messages ADD CONSTRAINT broken CHECK (state <> 'delivered')"
    )
    with capture_logs() as lines:
        assert await messenger.deliver() == 1
    assert [line["event"] for line in lines] == ["outbound.failed"]
    assert (await only_row(pool))["lease_token"] is not None
    await pool.execute("ALTER TABLE outbound_messages DROP CONSTRAINT broken")
    await pool.execute(LEASE_OVER)
    assert await messenger.deliver() == 1
    assert receiver.received[0].id == receiver.received[1].id
    assert await states(pool) == {"delivered": 1}
