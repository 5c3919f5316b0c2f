"""POST /v1/webhooks/stripe: what is stored, under which state, and what is answered when."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import asyncpg
import pytest

from sandbox.signed_events import event, signature
from shared.db.pool import create_pool
from shared.queue.connection import connect as connect_redis
from shared.queue.wakeup import Wakeup
from tests.fixtures.product import (
    SECRET_NEW,
    Answer,
    Endpoint,
    Serve,
    closed_port,
    event_row,
    event_states,
    payment,
    until,
)
from tests.fixtures.webhook_deliveries import (
    BODY,
    PATH,
    assert_envelope,
    assert_refused,
    stored,
    with_field,
)

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool


async def test_a_signed_event_is_answered_after_it_is_in_postgresql(
    endpoint: Endpoint, pool: Pool
) -> None:
    answer = await endpoint.deliver(BODY)
    assert answer.status == 200
    assert answer.json == {"received": True, "eventId": "evt_1", "duplicate": False}
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["attempts"], row["type"]) == (
        "received",
        0,
        "payment_intent.succeeded",
    )
    assert row["payload"] == BODY.decode()


async def test_the_doorbell_rings_once_an_event_is_stored(endpoint: Endpoint) -> None:
    await endpoint.deliver(BODY)
    assert len(endpoint.wakeups) == 1


async def test_a_duplicate_does_not_ring(endpoint: Endpoint) -> None:
    await endpoint.deliver(BODY)
    await endpoint.deliver(BODY)
    assert len(endpoint.wakeups) == 1


async def test_every_delivery_of_an_event_but_the_first_is_a_duplicate(
    endpoint: Endpoint, pool: Pool
) -> None:
    answers = [await endpoint.deliver(BODY) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert [answer.json["duplicate"] for answer in answers] == [False, True, True]
    assert await stored(pool) == 1


async def test_of_deliveries_at_once_exactly_one_is_not_a_duplicate(
    endpoint: Endpoint, pool: Pool
) -> None:
    answers = await asyncio.gather(*(endpoint.deliver(BODY) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert [answer.json["duplicate"] for answer in answers].count(False) == 1
    assert await stored(pool) == 1


async def test_a_redelivery_with_other_bytes_keeps_what_came_first(
    endpoint: Endpoint, pool: Pool
) -> None:
    await endpoint.deliver(BODY)
    answer = await endpoint.deliver(payment("1", amount=999_999))
    assert answer.json["duplicate"] is True
    assert (await event_row(pool, "evt_1"))["payload"] == BODY.decode()


async def test_the_answer_carries_the_callers_request_id_and_the_row_keeps_it(
    endpoint: Endpoint, pool: Pool
) -> None:
    headers = {"Stripe-Signature": signature(BODY, SECRET_NEW), "X-Request-Id": "caller-1"}
    answer = await endpoint.post(BODY, headers)
    assert answer.headers["X-Request-Id"] == "caller-1"
    assert (await event_row(pool, "evt_1"))["request_id"] == "caller-1"


@pytest.mark.parametrize("hostile", ["x" * 65, "a b", 'a"b', "ä"])
async def test_a_request_id_that_could_harm_a_log_is_replaced(
    endpoint: Endpoint, hostile: str
) -> None:
    headers = {"Stripe-Signature": signature(BODY, SECRET_NEW), "X-Request-Id": hostile}
    answer = await endpoint.post(BODY, headers)
    assert answer.status == 200
    assert answer.headers["X-Request-Id"].startswith("req_")


async def test_each_request_without_an_id_gets_one_of_its_own(endpoint: Endpoint) -> None:
    ids = {(await endpoint.deliver(BODY)).headers["X-Request-Id"] for _ in range(5)}
    assert len(ids) == 5


# Paths and methods


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_another_method_is_405_and_names_the_one_that_is_allowed(
    endpoint: Endpoint, method: str
) -> None:
    async with endpoint.client.request(method, endpoint.url) as response:
        answer = Answer(response.status, response.headers, await response.read())
    assert_envelope(answer, 405, "invalid_request_error")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("path", ["/", "/v1/webhooks", f"{PATH}/", "/v1/webhooks/%00"])
async def test_an_unknown_path_is_404(endpoint: Endpoint, path: str) -> None:
    answer = await endpoint.send_raw(f"GET {path} HTTP/1.1")
    assert_envelope(answer, 404, "not_found_error")


# Whose event it is


async def test_a_type_that_prepaid_does_not_know_is_accepted(
    endpoint: Endpoint, pool: Pool
) -> None:
    body = event("1", "customer.tax_id.created", {"id": "txi_1"})
    assert (await endpoint.deliver(body)).status == 200
    assert await event_states(pool) == {"evt_1": "received"}


async def test_an_event_of_the_other_mode_is_stored_in_quarantine(
    endpoint: Endpoint, pool: Pool
) -> None:
    answer = await endpoint.deliver(with_field("livemode", "true"))
    assert (answer.status, answer.json["duplicate"]) == (200, False)
    row = await event_row(pool, "evt_1")
    assert row["state"] == "quarantined"
    assert "live event" in row["reason"]


async def test_an_event_of_an_account_that_is_not_ours_is_stored_in_quarantine(
    endpoint: Endpoint, pool: Pool
) -> None:
    answer = await endpoint.deliver(with_field("account", '"acct_foreign"'))
    assert (answer.status, answer.json["duplicate"]) == (200, False)
    row = await event_row(pool, "evt_1")
    assert (row["state"], row["account"]) == ("quarantined", "acct_foreign")
    assert "acct_foreign" in row["reason"]


async def test_an_event_of_an_account_that_is_listed_is_received(serve: Serve, pool: Pool) -> None:
    endpoint = await serve(pool, PREPAID_STRIPE_ACCOUNTS="acct_other,acct_ours")
    await endpoint.deliver(with_field("account", '"acct_ours"'))
    assert await event_states(pool) == {"evt_1": "received"}


async def test_an_id_is_another_event_in_another_account_or_mode(
    endpoint: Endpoint, pool: Pool
) -> None:
    bodies = [BODY, with_field("livemode", "true"), with_field("account", '"acct_foreign"')]
    answers = [await endpoint.deliver(body) for body in bodies]
    assert [answer.json["duplicate"] for answer in answers] == [False, False, False]
    assert await stored(pool) == 3


# Servers away


async def test_while_postgresql_is_away_stripe_is_asked_to_send_again(serve: Serve) -> None:
    async with away() as pool:
        endpoint = await serve(pool)
        answer = await endpoint.deliver(BODY)
    assert_envelope(answer, 503, "internal_error")
    assert int(answer.headers["Retry-After"]) > 0
    assert endpoint.wakeups == []


async def test_a_bad_signature_is_400_whether_or_not_postgresql_is_there(serve: Serve) -> None:
    async with away() as pool:
        assert_refused(await (await serve(pool)).deliver(BODY, secret="whsec_test_other"))


async def test_postgresql_ending_our_sessions_is_503_or_served_and_then_recovers(
    endpoint: Endpoint, pool: Pool, database_url: str
) -> None:
    await endpoint.deliver(BODY)
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()
    first = await endpoint.deliver(payment("2"))
    assert first.status in {200, 503}
    assert (await endpoint.deliver(payment("2"))).status == 200
    assert await stored(pool) == 2


def away() -> Pool:
    return create_pool(
        f"postgresql://prepaid@127.0.0.1:{closed_port()}/prepaid", size=2, application_name="tests"
    )


async def test_while_redis_is_away_events_are_still_accepted(serve: Serve, pool: Pool) -> None:
    redis = connect_redis(f"redis://127.0.0.1:{closed_port()}/0")
    endpoint = await serve(pool, send_wakeup=Wakeup(redis).send)
    answers = [await endpoint.deliver(payment(str(n))) for n in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert await stored(pool) == 3
    await redis.aclose()


async def events_are_waited_for(connection: Connection) -> bool:
    """Return whether a statement waits for the lock of the inbox's table."""
    waiting: bool = await connection.fetchval(
        "SELECT count(*) > 0 FROM pg_locks"
        " WHERE relation = 'stripe_events'::regclass AND NOT granted"
    )
    return waiting


async def test_a_client_that_goes_away_does_not_take_the_commit_with_it(
    serve: Serve, pool: Pool
) -> None:
    woken = asyncio.Event()
    endpoint = await serve(pool, send_wakeup=woken.set)
    async with pool.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE stripe_events IN ACCESS EXCLUSIVE MODE")
        delivery = asyncio.create_task(endpoint.deliver(BODY))
        await until(lambda: events_are_waited_for(blocker))
        delivery.cancel()
        await asyncio.wait({delivery})
    await woken.wait()
    assert await event_states(pool) == {"evt_1": "received"}


async def test_nothing_is_answered_before_the_commit(endpoint: Endpoint, pool: Pool) -> None:
    async with pool.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE stripe_events IN ACCESS EXCLUSIVE MODE")
        delivery = asyncio.create_task(endpoint.deliver(BODY))
        await until(lambda: events_are_waited_for(blocker))
        assert not delivery.done()
        assert endpoint.wakeups == []
    assert (await delivery).status == 200


async def test_an_answer_is_json_that_any_client_reads(endpoint: Endpoint) -> None:
    answer = await endpoint.deliver(BODY)
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8" or (
        answer.headers["Content-Type"] == "application/json"
    )
    assert json.loads(answer.body.decode("ascii"))["received"] is True


async def test_a_hung_up_body_is_no_outage_of_postgresql(
    endpoint: Endpoint, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    head += f"Stripe-Signature: {signature(BODY, SECRET_NEW)}\r\n\r\n"
    writer.write(head.encode() + b"{")
    await writer.drain()
    await endpoint.deliver(BODY)
    writer.transport.abort()
    await endpoint.deliver(BODY)
    await endpoint.deliver(BODY)
    captured = capsys.readouterr()
    assert "postgres.unavailable" not in captured.out + captured.err
