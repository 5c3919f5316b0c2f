"""What an Idempotency-Key stands for when its first request came to no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import aiohttp
import pytest

from api.operation import Call, Reply
from api.operations import OPERATIONS
from tests.fixtures.api import ApiClient, serve_api
from tests.fixtures.product import settings
from worker.forgetter import Forgetter

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
    assert await Forgetter(pool).forget() == 2
    assert await pool.fetchval("SELECT array_agg(key) FROM idempotent_requests") == ["k0"]
