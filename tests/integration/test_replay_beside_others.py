"""What others do meanwhile is neither reported as a replay's own, nor discarded."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from shared.inbox import store as inbox
from shared.inbox.admin.model import EventFilter
from shared.ledger import service as ledger
from shared.replay import dead_letters
from tests.fixtures.ledger import usage
from tests.fixtures.product import (
    LEASE,
    balance,
    create_organization,
    event_states,
    payment,
    receive,
    sessions_wait,
)

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.replay.service import Replayer
    from worker.drainer import Drainer


async def test_what_others_post_while_a_replay_waits_for_the_account_is_not_its_own(
    pool: Pool, replayer: Replayer
) -> None:
    acme = await create_organization(pool)
    await receive(pool, payment("earlier"), payment("1"))
    await replayer.replay(["evt_earlier"], actor="cli:test", reason=None)

    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM accounts WHERE organization_id = $1 FOR UPDATE", acme.id)
        replay = asyncio.create_task(replayer.replay(["evt_1"], actor="cli:test", reason=None))
        await sessions_wait(pool)
        await ledger.post(other, [usage(acme, 2), usage(acme, 3)])
    report = await replay
    (diff,) = report["diff"]
    assert [(row["type"], row["amount"]) for row in diff["rows"]] == [("purchase", Decimal(10))]
    assert (diff["before"], diff["after"]) == (Decimal(5), Decimal(15))
    assert await balance(pool) == 15


@pytest.mark.parametrize("meanwhile", ["a replay claims one", "one dies of another error"])
async def test_an_event_that_no_longer_matches_the_filter_is_not_discarded(
    pool: Pool, drainer: Drainer, meanwhile: str
) -> None:
    await receive(pool, payment("1"), payment("2"))
    await drainer.drain()
    dead = EventFilter(error_class="UnknownOrganizationError")
    async with pool.acquire() as other, other.transaction():
        if meanwhile == "a replay claims one":
            await inbox.claim_for_replay(
                other, ["evt_1"], token=uuid4(), lease=LEASE, livemode=False, accounts=()
            )
        else:
            await other.execute(
                "UPDATE stripe_events SET error_class = 'InvalidAmountError' WHERE id = 'evt_1'"
            )
        discard = asyncio.create_task(
            dead_letters.discard(pool, dead, actor="cli:test", reason="a test")
        )
        await sessions_wait(pool)
    found = await discard
    assert (found.count, found.ids) == (1, ["evt_2"])
    states = await event_states(pool)
    assert (states["evt_1"] != "discarded", states["evt_2"]) == (True, "discarded")
