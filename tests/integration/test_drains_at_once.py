"""Drains of one worker at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.inbox.model import Lane
from tests.fixtures.product import balance, create_organization, payment, receive, until
from worker import drainer as drainers
from worker.drainer import Drainer, LaneLimits

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

LOCK_ACCOUNT = "SELECT FROM accounts WHERE organization_id = $1 FOR UPDATE"


async def test_the_next_batch_of_a_backlog_begins_while_the_first_waits_for_postgresql(
    pool: Pool, organization: Organization, drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(drainers.LIMITS, Lane.SHARED, LaneLimits(rows_max=2, at_once_max=3))
    await create_organization(pool, "other")
    await receive(pool, payment("1"), payment("2"))
    await receive(pool, *(payment(n, organization="other") for n in ("3", "4")))

    async def the_others_are_credited() -> bool:
        return await balance(pool, "other") == 20

    async with pool.acquire() as holder, holder.transaction():
        await holder.execute(LOCK_ACCOUNT, organization.id)
        draining = asyncio.create_task(drainer.drain_new())
        await until(the_others_are_credited)
        assert await balance(pool) == 0
    await draining
    await drainer.drain()
    await drainer.close()


async def test_a_batch_that_is_not_full_ends_its_drain(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await receive(pool, payment("1"))
    assert await drainer.drain_new() == 1
    assert await drainer.drain_new() == 0
    assert await balance(pool) == 10
