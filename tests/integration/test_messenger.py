"""Delivery: at least once, retried for three days, to allowed addresses, nobody starved."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from sandbox.product import ProductProcess
from shared import outages
from shared.db.pool import create_pool
from shared.organizations.model import Organization
from shared.outbound import rules, service, store
from shared.outbound import sender as sender_module
from shared.outbound.model import (
    DeliveryOutcome,
    EndpointWithSecret,
    MessageKey,
    MessageState,
    MessageType,
    OutboundEndpoint,
    OutboundMessage,
)
from shared.outbound.sender import RESPONSE_BYTES_MAX, Sender
from shared.recharge import recovery
from tests.fixtures.product import closed_port, environment
from tests.fixtures.receiver import Clock, Receiver, create_messenger
from worker import messenger as worker_messenger
from worker.messenger import Messenger

if TYPE_CHECKING:
    from shared.db.pool import Pool

LEASE_OVER = "UPDATE outbound_messages SET available_at = now() WHERE state = 'pending'"
ACCEPTED = 204


async def add(pool: Pool, url: str, *types: str) -> EndpointWithSecret:
    async with pool.acquire() as connection:
        return await service.add_endpoint(connection, url=url, types=types, allow_private=True)


async def announce(
    pool: Pool, organization: Organization, count: int = 1, **data: Any
) -> list[OutboundMessage]:
    messages = [
        OutboundMessage(organization.id, MessageType.CREDITS_LOW, data, uuid4(), datetime.now(UTC))
        for _ in range(count)
    ]
    async with pool.acquire() as connection, connection.transaction():
        await service.announce(connection, messages)
    return messages


async def only_row(pool: Pool) -> asyncpg.Record:
    (row,) = await pool.fetch("SELECT * FROM outbound_messages")
    return row


async def states(pool: Pool) -> dict[str, int]:
    rows = await pool.fetch("SELECT state, count(*) FROM outbound_messages GROUP BY state")
    return {row["state"]: row["count"] for row in rows}


def counted(result: str) -> float:
    labels = {"type": "credits.low", "result": result}
    return REGISTRY.get_sample_value("prepaid_outbound_messages_total", labels) or 0


async def test_a_message_arrives_signed_as_standard_webhooks_has_it(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger, clock: Clock
) -> None:
    secret = (await add(pool, receiver.url("/hooks?tenant=1"))).secret
    (sent,) = await announce(pool, organization, note="ä")
    before = counted("delivered")
    assert await messenger.deliver() == 1
    (got,) = receiver.received
    assert got.id == f"msg_{sent.id.hex}"
    assert got.headers["webhook-timestamp"] == str(int(clock.now.timestamp()))
    assert got.headers["Content-Type"] == "application/json"
    assert got.is_signed_by(secret)
    assert not got.is_signed_by(rules.new_secret(b"x" * 32))
    assert got.json["type"] == "credits.low"
    assert got.json["data"] == {"organizationId": str(organization.id), "note": "ä"}
    row = await only_row(pool)
    assert row["payload"] == got.body
    assert (row["state"], row["attempts"], row["last_status"]) == ("delivered", 1, ACCEPTED)
    assert counted("delivered") == before + 1
    assert await messenger.deliver() == 0


async def test_a_link_to_a_payment_is_not_stored_once_it_was_delivered(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger, clock: Clock
) -> None:
    await add(pool, receiver.url())
    link = recovery.new_link()
    data = {"url": f"https://credits.test/pay/{link}", "paymentIntentId": "pi_1"}
    kind = MessageType.RECHARGE_REQUIRES_ACTION
    receiver.status = 500
    async with pool.acquire() as connection, connection.transaction():
        message = OutboundMessage(organization.id, kind, data, uuid4(), datetime.now(UTC))
        await service.announce(connection, [message])
    assert await messenger.deliver() == 1
    assert link in (await only_row(pool))["payload"]
    await pool.execute(LEASE_OVER)
    receiver.status = ACCEPTED
    assert await messenger.deliver() == 1
    row = await only_row(pool)
    assert row["state"] == "delivered"
    assert [link in got.body for got in receiver.received] == [True, True]
    assert link not in row["payload"]
    assert json.loads(row["payload"])["data"]["url"] == "https://credits.test/pay/[removed]"


async def test_after_a_rotation_both_secrets_sign_for_a_day(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger, clock: Clock
) -> None:
    old = await add(pool, receiver.url())
    async with pool.acquire() as connection:
        new = await service.rotate_secret(connection, old.endpoint.id, now=clock.now)
    await announce(pool, organization)
    await messenger.deliver()
    clock.now += timedelta(hours=24)
    await announce(pool, organization)
    await messenger.deliver()
    signed = [
        (one.is_signed_by(new.secret), one.is_signed_by(old.secret)) for one in receiver.received
    ]
    assert signed == [(True, True), (True, False)]


async def test_a_failure_is_tried_again_with_the_same_id_and_a_new_moment(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger, clock: Clock
) -> None:
    secret = (await add(pool, receiver.url())).secret
    await announce(pool, organization)
    receiver.status = 503
    await messenger.deliver()
    row = await only_row(pool)
    assert (row["state"], row["last_status"]) == ("pending", 503)
    assert row["reason"] == "the receiver answered 503"
    assert row["available_at"] == clock.now + timedelta(seconds=5)
    assert row["lease_token"] is None
    assert await messenger.deliver() == 0

    receiver.status = 200
    clock.now += timedelta(seconds=5)
    await pool.execute(LEASE_OVER)
    assert await messenger.deliver() == 1
    first, second = receiver.received
    assert first.id == second.id
    assert first.body == second.body
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 5
    assert second.is_signed_by(secret)
    row = await only_row(pool)
    assert (row["state"], row["attempts"], row["reason"]) == ("delivered", 2, None)


async def test_attempts_follow_the_schedule_until_three_days_are_over_then_it_is_dead(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger, clock: Clock
) -> None:
    await add(pool, receiver.url())
    await announce(pool, organization)
    receiver.status = 500
    created = (await only_row(pool))["created_at"]
    clock.now = created
    waits = []
    while await messenger.deliver():
        row = await only_row(pool)
        if row["state"] != "pending":
            break
        waits.append((row["available_at"] - clock.now).total_seconds())
        clock.now = row["available_at"]
        await pool.execute(LEASE_OVER)
    assert waits[:8] == list(rules.BACKOFF_SECONDS[:8])
    assert clock.now == created + timedelta(days=3)
    assert row["state"] == "dead"
    assert row["attempts"] == len(receiver.received) == 10
    assert row["reason"] == "the receiver answered 500"
    await pool.execute(LEASE_OVER)
    assert await messenger.deliver() == 0


async def test_a_dead_message_is_replayed_with_three_days_before_it(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger, clock: Clock
) -> None:
    await add(pool, receiver.url())
    (sent,) = await announce(pool, organization)
    receiver.status = 500
    clock.now += timedelta(days=4)
    await messenger.deliver()
    assert await states(pool) == {"dead": 1}
    clock.now = datetime.now(UTC)
    async with pool.acquire() as connection:
        rows = await service.replay(connection, ids=[sent.id], state=MessageState.DEAD)
    assert [row["id"] for row in rows] == [sent.id]
    await messenger.deliver()
    row = await only_row(pool)
    assert (row["state"], row["attempts"]) == ("pending", 1)
    receiver.status = 200
    await pool.execute(LEASE_OVER)
    await messenger.deliver()
    assert await states(pool) == {"delivered": 1}


async def test_a_discarded_message_is_not_sent_and_escapes_the_worker_that_holds_it(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger
) -> None:
    await add(pool, receiver.url())
    first, second = await announce(pool, organization, 2)
    async with pool.acquire() as connection:
        await service.discard(connection, first.id, "a person said so")

    async def discard_meanwhile(_request: web.Request) -> web.Response:
        async with pool.acquire() as connection:
            await service.discard(connection, second.id, "a person said so")
        return web.Response()

    receiver.by_path["/hooks"] = discard_meanwhile
    with capture_logs() as lines:
        assert await messenger.deliver() == 1
    assert await states(pool) == {"discarded": 2}
    assert [line["event"] for line in lines] == ["outbound.lease_lost"]


async def test_410_disables_the_endpoint_and_what_waits_for_it_dies_without_an_attempt(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger
) -> None:
    gone = await add(pool, receiver.url("/gone"))
    await add(pool, receiver.url("/stays"))
    receiver.by_path["/gone"] = 410
    await announce(pool, organization)
    await messenger.deliver()
    await announce(pool, organization)
    # It was announced by a transaction that saw the endpoint enabled.
    (late,) = await announce(pool, organization)
    await pool.execute(
        "INSERT INTO outbound_messages (id, endpoint_id, organization_id, type, payload)"
        " VALUES ($1, $2, $3, 'credits.low', '{}')",
        *(late.id, gone.endpoint.id, organization.id),
    )
    await messenger.deliver()
    assert len(receiver.of("/gone")) == 1
    assert len(receiver.of("/stays")) == 3
    rows = await pool.fetch(
        "SELECT state, last_status, reason FROM outbound_messages WHERE endpoint_id = $1"
        " ORDER BY created_at",
        gone.endpoint.id,
    )
    assert [tuple(row) for row in rows] == [
        ("dead", 410, "the receiver answered 410"),
        ("dead", None, "the endpoint is disabled; add it again, then replay"),
    ]
    async with pool.acquire() as connection:
        found = {one.url: one for one in await service.list_endpoints(connection)}
        assert found[gone.endpoint.url].disabled_reason == "the receiver answered 410 Gone"
        assert found[receiver.url("/stays")].disabled_at is None
        # Added again, it takes what is replayed.
        receiver.by_path["/gone"] = 200
        again = await service.add_endpoint(connection, url=gone.endpoint.url, allow_private=True)
        assert again.endpoint.id == gone.endpoint.id
        assert len(await service.replay(connection)) == 2
    await messenger.deliver()
    assert [one.is_signed_by(again.secret) for one in receiver.of("/gone")] == [False, True, True]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_nobody_follows_it(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger, status: int
) -> None:
    async def redirect(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": receiver.url("/elsewhere")})

    receiver.by_path["/hooks"] = redirect
    await add(pool, receiver.url())
    await announce(pool, organization)
    await messenger.deliver()
    row = await only_row(pool)
    assert (row["state"], row["last_status"]) == ("pending", status)
    assert receiver.of("/elsewhere") == []


async def test_a_receiver_that_is_away_is_tried_again(
    pool: Pool, organization: Organization, messenger: Messenger
) -> None:
    await add(pool, f"http://127.0.0.1:{closed_port()}/hooks")
    await announce(pool, organization)
    await messenger.deliver()
    row = await only_row(pool)
    assert (row["state"], row["last_status"]) == ("pending", None)
    assert row["reason"].startswith("ClientConnectorError: ")


async def test_an_answer_without_end_is_read_to_its_limit_and_counts_by_its_status(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger
) -> None:
    left: list[int] = []

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        sent = 0
        try:
            while True:
                await response.write(b"x" * 65536)
                sent += 65536
        finally:
            left.append(sent)

    receiver.by_path["/hooks"] = endless
    await add(pool, receiver.url())
    await announce(pool, organization)
    await messenger.deliver()
    assert await states(pool) == {"delivered": 1}
    assert RESPONSE_BYTES_MAX == 65536


async def test_an_answer_that_breaks_off_after_its_status_counts_by_its_status(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger
) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"x")
        assert request.transport is not None
        request.transport.abort()
        return response

    receiver.by_path["/hooks"] = broken
    await add(pool, receiver.url())
    await announce(pool, organization)
    await messenger.deliver()
    assert await states(pool) == {"delivered": 1}


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


class FixedResolver(AbstractResolver):
    """A DNS that somebody else owns: it answers what it likes."""

    def __init__(self, addresses: Sequence[str], port: int) -> None:
        self._addresses = addresses
        self._port = port
        self.asked = 0

    async def resolve(
        self,
        host: str,
        port: int = 0,  # noqa: ARG002 - the receiver has a port of its own
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - as above
    ) -> list[ResolveResult]:
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=self._port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


@pytest_asyncio.fixture
async def internal() -> AsyncIterator[tuple[int, list[None]]]:
    """Listen inside; give the port, and a list of who connected."""
    connected: list[None] = []

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(None)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], connected
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], ["10.0.0.1", "127.0.0.1", "::1"]],
    ids=str,
)
async def test_a_name_that_resolves_to_a_private_address_is_not_connected_to(
    pool: Pool,
    organization: Organization,
    clock: Clock,
    internal: tuple[int, list[None]],
    addresses: list[str],
) -> None:
    port, connected = internal
    await add(pool, f"https://rebound.example.com:{port}/hooks")
    await announce(pool, organization)
    resolver = FixedResolver(addresses, port)
    async with Sender(allow_private=False, resolver=resolver) as sender:
        assert await create_messenger(pool, sender, clock).deliver() == 1
    assert resolver.asked == 1
    assert connected == []
    row = await only_row(pool)
    assert (row["state"], row["last_status"]) == ("pending", None)
    assert " is not a public address" in row["reason"]


async def test_with_the_permission_the_same_name_is_connected_to(
    pool: Pool, organization: Organization, clock: Clock, internal: tuple[int, list[None]]
) -> None:
    port, connected = internal
    await add(pool, f"https://rebound.example.com:{port}/hooks")
    await announce(pool, organization)
    resolver = FixedResolver(["127.0.0.1"], port)
    async with Sender(allow_private=True, resolver=resolver) as sender:
        await create_messenger(pool, sender, clock).deliver()
    assert len(connected) == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0177.0.0.1"]
)
async def test_an_address_in_a_stored_url_is_refused_where_the_permission_has_gone(
    pool: Pool,
    organization: Organization,
    clock: Clock,
    internal: tuple[int, list[None]],
    host: str,
) -> None:
    port, connected = internal
    await add(pool, "https://example.com/hooks")
    await pool.execute("UPDATE webhook_endpoints SET url = $1", f"https://{host}:{port}/")
    await announce(pool, organization)
    async with Sender(allow_private=False) as sender:
        await create_messenger(pool, sender, clock).deliver()
    assert connected == []
    assert (await only_row(pool))["reason"].startswith("the URL is refused: ")


async def test_the_socket_itself_is_refused_whatever_the_url_said(
    internal: tuple[int, list[None]],
) -> None:
    """The last guard, alone: an address in the URL goes past every resolver."""
    port, connected = internal
    async with Sender(allow_private=False) as sender:
        for host in ("127.0.0.1", "localhost", "[::1]"):
            with pytest.raises(OSError, match="is not a public address"):
                await sender._session.post(f"http://{host}:{port}/")  # noqa: SLF001 - the guard alone
    assert connected == []


async def test_a_proxy_of_the_environment_is_not_used(
    pool: Pool,
    organization: Organization,
    receiver: Receiver,
    messenger: Messenger,
    internal: tuple[int, list[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port, connected = internal
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    await add(pool, receiver.url())
    await announce(pool, organization)
    await messenger.deliver()
    assert len(receiver.received) == 1
    assert connected == []


async def test_a_receiver_that_speaks_no_tls_gets_nothing_at_an_https_address(
    pool: Pool, organization: Organization, messenger: Messenger, receiver: Receiver
) -> None:
    await add(pool, receiver.url().replace("http://", "https://"))
    await announce(pool, organization)
    await messenger.deliver()
    assert receiver.received == []
    assert (await only_row(pool))["state"] == "pending"


@pytest.mark.parametrize(("answers", "state"), [(False, "pending"), (True, "delivered")])
async def test_a_receiver_that_hangs_is_given_up_and_its_status_counts_if_it_has_sent_one(
    pool: Pool,
    organization: Organization,
    receiver: Receiver,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    answers: bool,
    state: str,
) -> None:
    monkeypatch.setattr(sender_module, "RESPONSE_SECONDS_MAX", 0.2)
    never = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if answers:
            await response.prepare(request)
        await never.wait()
        return response

    receiver.by_path["/hooks"] = hang
    await add(pool, receiver.url())
    await announce(pool, organization)
    async with Sender(allow_private=True) as sender:
        await create_messenger(pool, sender, clock).deliver()
    row = await only_row(pool)
    assert (row["state"], row["reason"]) == (
        state,
        None if answers else "no answer within 0.2 s",
    )
    never.set()


async def test_log_lines_have_no_body_no_url_and_no_secret(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger
) -> None:
    secret = (await add(pool, receiver.url("/token-in-the-path"))).secret
    receiver.status = 500
    await announce(pool, organization, note="confidential")
    await announce(pool, organization)
    with capture_logs() as lines:
        await messenger.deliver()
    assert [line["event"] for line in lines] == ["outbound.retrying"] * 2
    for text in ("token-in-the-path", "confidential", secret):
        assert text not in str(lines)


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


async def test_the_backlog_is_measured_by_state(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger, clock: Clock
) -> None:
    await add(pool, receiver.url())
    await announce(pool, organization, 2)
    receiver.status = 500
    clock.now += timedelta(days=4)
    await messenger.deliver()
    await announce(pool, organization)
    await service.measure_backlog(pool)
    found = {
        state: REGISTRY.get_sample_value("prepaid_outbound_backlog", {"state": state})
        for state in ("pending", "dead")
    }
    assert found == {"pending": 1, "dead": 2}


async def test_a_removed_endpoint_is_sent_nothing_and_may_be_added_again(
    pool: Pool, organization: Organization, receiver: Receiver, messenger: Messenger
) -> None:
    made: OutboundEndpoint = (await add(pool, receiver.url())).endpoint
    await announce(pool, organization, 3)
    async with pool.acquire() as connection:
        assert await service.remove_endpoint(connection, made.id) == 3
    await announce(pool, organization)
    assert await messenger.deliver() == 0
    assert await states(pool) == {"discarded": 3}
    again = await add(pool, receiver.url(), "credits.low")
    assert again.endpoint.id == made.id
    assert again.endpoint.types == (MessageType.CREDITS_LOW,)
    await announce(pool, organization)
    assert await messenger.deliver() == 1


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
