"""What an Idempotency-Key stands for when its first request came to no answer."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock
from unittest.mock import AsyncMock
from uuid import UUID

import aiohttp
import pytest

from api.endpoints import OPERATIONS
from api.framework import idempotency
from api.framework.operation import Call, Operation, Reply, Retry
from shared.errors import StripeFailedError
from shared.http.deadlines import TICK_SECONDS
from shared.idempotency import store
from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient, serve_api
from tests.fixtures.operation_requests import send
from tests.fixtures.operation_tenants import World
from tests.fixtures.operations import name, needs
from tests.fixtures.product import settings
from worker.cleaners import BATCH_ROWS_MAX, KEY_RETENTION, IdempotencyKeyCleaner

if TYPE_CHECKING:
    from shared.db.pool import Pool

PATH = "/v1/organizations"
Failure = Callable[[], Awaitable[None]]


async def bug() -> None:
    raise RuntimeError("a bug")


async def lost_database() -> None:
    raise ConnectionResetError


async def no_end() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(("failure", "status"), [(bug, 500), (lost_database, 503), (no_end, 504)])
async def test_after_a_5xx_the_next_try_goes_on_at_once_under_the_same_id(
    pool: Pool, redis_url: str, client: aiohttp.ClientSession, failure: Failure, status: int
) -> None:
    (create,) = (o for o in OPERATIONS if o.name == "createOrganization")
    ids: list[UUID] = []

    async def fails_at_first(call: Call) -> Reply:
        ids.append(call.id)
        if len(ids) == 1:
            await failure()
        return await create.handle(call)

    operation = replace(create, handle=fails_at_first, seconds_max=0.2)
    async with serve_api(settings(REDIS_URL=redis_url), pool, client, [operation]) as bare:
        admin: ApiClient = await bare.make_key()
        asked = {"slug": "initech", "name": "Initech"}
        first = await admin.post(PATH, asked, idempotency_key="k")
        assert first.status == status
        other = await admin.post(PATH, asked | {"name": "Other"}, idempotency_key="k")
        assert (other.status, other.json["type"]) == (409, "idempotency_error")
        second = await admin.post(PATH, asked, idempotency_key="k")
        assert (second.status, second.json["id"]) == (201, str(ids[0]))
        third = await admin.post(PATH, asked, idempotency_key="k")
        assert third.json == second.json
    assert ids == [ids[0]] * 2


# Without a checkout it takes the newest, so that a second try takes the next: for test keys alone.
WRITES = [o for o in OPERATIONS if o.retry is not Retry.READ and o.name != "completeLocal"]


@pytest.mark.parametrize("operation", WRITES, ids=name)
async def test_a_request_whose_answer_was_lost_is_done_once(
    world: World, operation: Operation
) -> None:
    """The database goes away just before the answer is kept; the client asks again."""
    clean = await world.request(operation, world.a)
    lost = await world.request(operation, world.a)
    before = await counted(world)
    first = await send(world.client, clean, idempotency_key="clean")
    assert first.status == operation.status
    once = await counted(world) - before
    if needs(operation).before is not None:
        await needs(operation).before(world, world.a)  # type: ignore[misc]
    before = await counted(world)
    with mock.patch.object(
        store, "complete", AsyncMock(side_effect=ConnectionResetError)
    ) as complete:
        unanswered = await send(world.client, lost, idempotency_key="lost")
    if complete.await_count == 0:  # the ledger's own key: there is nothing to be kept
        assert operation.keyed_by is not None
    else:
        assert unanswered.status == 503
    again = await send(world.client, lost, idempotency_key="lost")
    assert again.status == operation.status, again.json
    assert await counted(world) - before == once


async def counted(world: World) -> Counter[str]:
    """Count the rows of every table, but for the messages, which tell of balances."""
    everything = await world.everything()
    return Counter({table: len(rows) for table, rows in everything.items()})


async def test_a_try_that_comes_back_late_ends_and_answers_nobody_elses(pool: Pool) -> None:
    async def claim(number: int) -> store.Claimed | store.AlreadyUsed:
        async with pool.acquire() as connection:
            return await store.claim(
                connection, UUID(int=0), "k", digest=b"d", new_id=UUID(int=number),
                token=UUID(int=number), lease=timedelta(seconds=0),
            )  # fmt: skip

    late, second = await claim(1), await claim(2)
    assert isinstance(late, store.Claimed)
    assert isinstance(second, store.Claimed)
    assert (late.id, second.id) == (UUID(int=1), UUID(int=1))
    async with pool.acquire() as connection:
        await store.delete(connection, late)
        await store.release(connection, late)
        assert await store.complete(connection, late, status=200, answer=b"late") is False
        assert await store.complete(connection, second, status=200, answer=b"second") is True
        assert await store.complete(connection, second, status=200, answer=b"other") is False
    assert await claim(3) == store.AlreadyUsed(same_request=True, status=200, answer=b"second")


@pytest.mark.parametrize(
    "operation", [o for o in OPERATIONS if o.retry is not Retry.READ], ids=name
)
def test_a_try_has_ended_before_the_next_one_may_have_its_key(operation: Operation) -> None:
    ends_after = operation.seconds_max + TICK_SECONDS + idempotency.END_SECONDS_MAX
    assert timedelta(seconds=ends_after) < idempotency.LEASE


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
def test_nobody_asks_stripe_in_the_transaction_of_an_answer(operation: Operation) -> None:
    if operation.retry is Retry.STORED:
        assert StripeFailedError not in operation.errors
        source = inspect.getsource(operation.handle)
        assert "api.stripe" not in source
        assert "api.charger" not in source


def test_the_page_says_how_long_the_key_of_a_dead_process_waits() -> None:
    page = (Path(__file__).parents[2] / "docs/api.md").read_text(encoding="utf-8")
    assert f"a 409 for up to {idempotency.LEASE.seconds} seconds" in " ".join(page.split())


async def test_one_key_captures_one_hold(api_client: ApiClient, organization: Organization) -> None:
    await api_client.post("/v1/billing/acme/grants", {"amount": 10})
    path = "/v1/billing/acme/holds"
    holds = [(await api_client.post(path, {"amount": 2})).json["id"] for _ in range(2)]
    first = await api_client.post(f"{path}/{holds[0]}/capture", {"amount": 1}, idempotency_key="k")
    again = await api_client.post(f"{path}/{holds[0]}/capture", {"amount": 1}, idempotency_key="k")
    other = await api_client.post(f"{path}/{holds[1]}/capture", {"amount": 1}, idempotency_key="k")
    assert (first.status, again.json) == (200, first.json)
    assert (other.status, other.json["type"]) == (409, "idempotency_error")


async def test_an_answer_is_forgotten_after_a_week_and_no_sooner(
    api_client: ApiClient, pool: Pool
) -> None:
    for number in range(3):
        asked = {"slug": f"org-{number}", "name": "x"}
        await api_client.post("/v1/organizations", asked, idempotency_key=f"k{number}")
    await pool.execute(
        "UPDATE idempotent_requests SET created_at = now() - interval '7 days 1 minute'"
        " WHERE key <> 'k0'"
    )
    assert await IdempotencyKeyCleaner(pool).clean() == 2
    assert await pool.fetchval("SELECT array_agg(key) FROM idempotent_requests") == ["k0"]


async def test_a_key_for_every_request_of_a_week_is_deleted_in_bounded_batches_by_index(
    pool: Pool,
) -> None:
    """An app that sends a new key with each request leaves a week of them, and no more."""
    await pool.execute(
        "INSERT INTO idempotent_requests (tenant_id, key, digest, id, locked_until, created_at)"
        " SELECT gen_random_uuid(), n::text, '', gen_random_uuid(), now(),"
        " now() - n * interval '5 minutes' FROM generate_series(1, 4500) AS n"
    )
    await pool.execute("ANALYZE idempotent_requests")
    kept = 7 * 24 * 12 - 1
    async with pool.acquire() as connection:
        assert (
            await store.purge(connection, KEY_RETENTION, rows_max=BATCH_ROWS_MAX) == BATCH_ROWS_MAX
        )
        plan = await connection.fetch(
            "EXPLAIN SELECT FROM idempotent_requests WHERE created_at < now() - interval '7 days'"
            " ORDER BY created_at LIMIT 1000"
        )
    assert "idempotent_requests_by_age" in "".join(row[0] for row in plan)
    assert await IdempotencyKeyCleaner(pool).clean() == 4500 - kept - BATCH_ROWS_MAX
    assert await pool.fetchval("SELECT count(*) FROM idempotent_requests") == kept
