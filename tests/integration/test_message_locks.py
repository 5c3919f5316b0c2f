"""Operators that act on the same messages lock them in the order of their ids."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from shared.outbound import service
from shared.outbound.model import MessageFilter, MessageState
from shared.replay import messages
from tests.fixtures.outbound_messages import add, announce, states
from tests.integration.test_event_owners import waiting_for_locks

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

URL = "https://app.example.com/hooks"
LOCK = "SELECT FROM outbound_messages WHERE id = $1 AND endpoint_id = $2 FOR UPDATE"
ROWS = "SELECT id, endpoint_id FROM outbound_messages ORDER BY id, endpoint_id"


async def discard_pending(pool: Pool, _message: UUID, _endpoint: UUID) -> None:
    pending = MessageFilter(state=MessageState.PENDING)
    await messages.discard(pool, pending, actor="cli:test", reason="too old")


async def discard_one(pool: Pool, message: UUID, _endpoint: UUID) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await service.discard(connection, message, "too old")


async def remove_endpoint(pool: Pool, _message: UUID, endpoint: UUID) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await service.remove_endpoint(connection, endpoint)


@pytest.mark.parametrize(
    ("act", "endpoints", "announced"),
    [(discard_pending, 1, 2), (discard_one, 2, 1), (remove_endpoint, 1, 2)],
)
async def test_an_act_waits_for_the_first_of_its_messages_and_holds_no_later_one(
    pool: Pool,
    organization: Organization,
    act: Callable[[Pool, UUID, UUID], Awaitable[Any]],
    endpoints: int,
    announced: int,
) -> None:
    for number in range(endpoints):
        await add(pool, f"{URL}/{number}")
    await announce(pool, organization, announced)
    first, last = await pool.fetch(ROWS)
    # The first by id is the last in the table, and in the index from the newest to the oldest.
    await pool.execute(
        "UPDATE outbound_messages SET created_at = created_at - interval '1 millisecond'"
        " WHERE id = $1 AND endpoint_id = $2",
        *first,
    )
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(LOCK, *first)
        acting = asyncio.ensure_future(act(pool, first["id"], first["endpoint_id"]))
        await waiting_for_locks(pool, 1)
        await connection.execute(f"{LOCK} NOWAIT", *last)
    await acting
    assert await states(pool) == {"discarded": 2}
