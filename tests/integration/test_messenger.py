"""Delivery: signed, at least once, retried for three days, then dead; what each answer does."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from aiohttp import web
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from shared.organizations.model import Organization
from shared.outbound import rules, service
from shared.outbound import sender as sender_module
from shared.outbound.model import MessageFilter, MessageType, OutboundEndpoint, OutboundMessage
from shared.outbound.sender import RESPONSE_BYTES_MAX, Sender
from shared.recharge import recovery
from shared.replay.messages import MessageReplayer
from tests.fixtures.outbound_messages import ACCEPTED, LEASE_OVER, add, announce, only_row, states
from tests.fixtures.product import closed_port
from tests.fixtures.receiver import Clock, Receiver, create_messenger
from worker.messenger import Messenger

if TYPE_CHECKING:
    from shared.db.pool import Pool


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
        due = await service.replay(connection, sent.id)
    assert [key.id for key in due] == [sent.id]
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
        " VALUES ($1, $2, $3, 'credits.low', '[1]')",
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
    replayed = await MessageReplayer(pool).replay(MessageFilter(), actor="cli:test", reason=None)
    assert replayed["applied"] == 2
    await messenger.deliver()
    assert [one.is_signed_by(again.secret) for one in receiver.of("/gone")] == [False, True, True]


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
