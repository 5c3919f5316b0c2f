"""A replay's report has what the replay did, and nothing that others did meanwhile."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

from shared.ledger import service as ledger
from tests.fixtures.ledger import usage
from tests.fixtures.product import balance, create_organization, payment, receive, until

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.replay.service import Replayer


async def test_what_others_post_while_a_replay_waits_for_the_account_is_not_its_own(
    pool: Pool, replayer: Replayer
) -> None:
    acme = await create_organization(pool)
    await receive(pool, payment("earlier"), payment("1"))
    await replayer.replay(["evt_earlier"], actor="cli:test", reason=None)

    async def waits() -> bool:
        count: int = await pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return count > 0

    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM accounts WHERE organization_id = $1 FOR UPDATE", acme.id)
        replay = asyncio.create_task(replayer.replay(["evt_1"], actor="cli:test", reason=None))
        await until(waits)
        await ledger.post(other, [usage(acme, 2), usage(acme, 3)])
    report = await replay
    (diff,) = report["diff"]
    assert [(row["type"], row["amount"]) for row in diff["rows"]] == [("purchase", Decimal(10))]
    assert (diff["before"], diff["after"]) == (Decimal(5), Decimal(15))
    assert await balance(pool) == 15
