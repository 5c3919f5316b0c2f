"""Transactions of one drain take turns: they read beside each other, and lock in turn."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

import pytest

from tests.fixtures.product import event_states, payment, receive
from tests.integration.events import CUSTOMER, session
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.events.service import Applier
    from shared.organizations.model import Organization


class WantedLock(asyncio.Lock):
    """A lock that says when somebody wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_wanted = asyncio.Event()

    async def acquire(self) -> Literal[True]:
        self.is_wanted.set()
        return await super().acquire()


@pytest.mark.parametrize(
    "body",
    [
        payment("1"),
        session("1", metadata={}, client_reference_id="later"),
        session("1", customer=CUSTOMER),
        session("1", customer=CUSTOMER, mode="setup"),
        session("1", "expired"),
    ],
    ids=["a payment", "one that waits", "a new customer", "a link", "an expired session"],
)
async def test_a_transaction_that_waits_for_its_turn_has_locked_nothing(
    pool: Pool, organization: Organization, applier: Applier, body: bytes
) -> None:
    """Who has the turn may need any row: two that wait for each other would both be given up."""
    turn = WantedLock()
    drainer = Drainer(pool, replace(applier, turn=turn), make_token=uuid4)
    await receive(pool, body)
    async with turn:
        turn.is_wanted.clear()
        draining = asyncio.create_task(drainer.drain())
        async with asyncio.timeout(10):
            await turn.is_wanted.wait()
        held = await pool.fetch(
            "SELECT l.locktype, l.mode, l.relation::regclass FROM pg_locks AS l"
            " INNER JOIN pg_stat_activity AS a ON l.pid = a.pid"
            " WHERE a.datname = current_database() AND a.state = 'idle in transaction'"
            " AND l.mode <> 'AccessShareLock' AND l.locktype <> 'virtualxid'"
        )
        assert held == []
    await draining
    assert set((await event_states(pool)).values()) <= {"applied", "ignored"}
    assert not turn.locked()
