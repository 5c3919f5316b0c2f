"""Claims and dead letters in an inbox that has grown: found by index, whatever else it holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from sandbox.signed_events import event
from shared.inbox import store
from shared.inbox.admin import store as admin
from shared.inbox.admin.model import EventFilter
from shared.inbox.model import EventState, Lane
from shared.replay.dead_letters import COUNTED_MAX
from tests.fixtures.product import LEASE, payment, receive

if TYPE_CHECKING:
    from shared.db.pool import Pool


BLOCKS_MAX = 120  # of some 2,000
BACKLOG = (
    "INSERT INTO stripe_events (account, livemode, id, type, stripe_created_at, payload, state,"
    " settled_at, lane, reason, available_at)"
    " SELECT '', FALSE, $1 || i, $1, now(), repeat('x', 1000), $2, $3, $4, 'none',"
    " now() - interval '1 day' FROM generate_series(1, 4000) AS i"
)


@pytest.mark.parametrize("analyzed", [True, False], ids=["fresh statistics", "none"])
async def test_a_claim_walks_neither_a_paused_type_nor_another_lane_nor_what_is_settled(
    pool: Pool, *, analyzed: bool
) -> None:
    await pool.executemany(
        BACKLOG,
        [
            ("customer.updated", "ignored", datetime.now(UTC), "shared"),
            ("payment_intent.succeeded", "received", None, "shared"),
            ("charge.refunded", "received", None, "stripe"),
        ],
    )
    await pool.execute(
        "INSERT INTO event_breakers VALUES ('payment_intent.succeeded', 10, now() + interval '1h')"
    )
    await receive(pool, payment("paused"), *(event(str(n), "charge.updated", {}) for n in range(3)))
    if analyzed:
        await pool.execute("ANALYZE stripe_events")
    assert await blocks_read(pool) < BLOCKS_MAX
    async with pool.acquire() as connection:
        claimed = await store.claim(connection, rows_max=200, token=uuid4(), lease=LEASE)
    assert {each.type for each in claimed} == {"charge.updated"}
    await pool.execute("DELETE FROM event_breakers")
    assert await blocks_read(pool, rows_max=1) < BLOCKS_MAX


async def test_dead_letters_are_listed_and_selected_by_index(pool: Pool) -> None:
    state = EventState.DEAD
    await pool.execute(BACKLOG, "customer.updated", "applied", datetime.now(UTC), "shared")
    await pool.execute(BACKLOG.replace("4000", "30"), "x", state, datetime.now(UTC), "alone")
    selecting = (
        admin.QUERIES.select_rare_for_replay,
        state,
        None,
        None,
        None,
        datetime.now(UTC),
        None,
        None,
        10,
    )
    listing = (admin.QUERIES.list_in_rare_state, state, None, None, None, None, 10, None)
    reopening = (store.QUERIES.reopen_waiting, ["cus_1"])
    for query in (selecting, listing, reopening):
        assert await blocks(pool, *query) < BLOCKS_MAX
    async with pool.acquire() as connection:
        ids = await admin.select_for_replay(
            connection, EventFilter(state=state), until=datetime.now(UTC), after=None, limit=100
        )
        assert len(ids) == 30


async def test_the_dead_are_listed_and_grouped_at_the_same_cost_however_many_there_are(
    pool: Pool,
) -> None:
    listing = (admin.QUERIES.list_in_rare_state, "dead", *(None,) * 4, 50, None)
    causes = (admin.QUERIES.causes, COUNTED_MAX, admin.CAUSES_MAX)
    backlog = BACKLOG.replace(" reason,", " reason, error_class,").replace(
        "'none',", "'none', 'E',"
    )
    costs = []
    for count in (500, 5000):
        for state in ("applied", "dead"):
            filling = backlog.replace("4000", str(count)).replace(
                "$1 || i", f"$1 || '{state}' || i"
            )
            await pool.execute(filling, f"type.{count}", state, datetime.now(UTC), "alone")
        await pool.execute("VACUUM (ANALYZE) stripe_events")
        costs.append([await blocks(pool, *each) for each in (listing, causes)])
    for small, large in zip(*costs, strict=True):
        assert large <= 2 * small, costs


async def blocks_read(pool: Pool, *, rows_max: int = 200) -> int:
    """Return how many blocks a claim of the shared lane touches."""
    lane = Lane.SHARED
    arguments = (rows_max, uuid4(), LEASE, lane, lane.after_a_lost_lease)
    return await blocks(pool, store.QUERIES.claim, *arguments)


async def blocks(pool: Pool, query: str, *arguments: object) -> int:
    """Return how many blocks a statement touches; it is rolled back."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        # The plan of a prepared statement that has served many: made for no particular lane.
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        plan = await connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {query}", *arguments
        )
        await transaction.rollback()
    top = json.loads(plan)[0]["Plan"]
    touched: int = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    return touched
