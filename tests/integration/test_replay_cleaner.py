"""Old replays are deleted a few rows at a time; what may be resumed stays."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from worker.cleaners import REPLAY_RETENTION, ReplayCleaner

if TYPE_CHECKING:
    from shared.db.pool import Pool

OLD = REPLAY_RETENTION + timedelta(minutes=1)
YOUNG = REPLAY_RETENTION - timedelta(minutes=1)


async def store_replay(pool: Pool, number: int, kind: str, state: str, age: timedelta) -> None:
    """Store a replay that changed three organizations."""
    batch_id = UUID(int=number)
    await pool.execute(
        "INSERT INTO replay_batches (id, kind, ids, actor, options, holder, state, saved_at,"
        " finished_at) VALUES ($1, $2, '{}', 'cli:test', '{}', $1, $3, now() - $4::interval,"
        " CASE WHEN $3 = 'finished' THEN now() - $4::interval END)",
        *(batch_id, kind, state, age),
    )
    for _ in range(3):
        await pool.execute(
            "INSERT INTO replay_batch_organizations VALUES ($1, $2, 0, 10, 1, '{}')",
            *(batch_id, uuid4()),
        )


async def test_finished_replays_are_deleted_after_their_retention_in_small_batches(
    pool: Pool,
) -> None:
    await store_replay(pool, 1, "events", "finished", OLD)
    await store_replay(pool, 2, "messages", "finished", OLD)
    await store_replay(pool, 3, "events", "finished", YOUNG)
    await store_replay(pool, 4, "events", "stopped", OLD)
    assert await ReplayCleaner(pool, rows_max=2).clean() == 8
    left = await pool.fetch("SELECT id FROM replay_batches ORDER BY id")
    assert [row["id"].int for row in left] == [3, 4]
    assert await pool.fetchval("SELECT count(*) FROM replay_batch_organizations") == 6
    assert await ReplayCleaner(pool).clean() == 0
