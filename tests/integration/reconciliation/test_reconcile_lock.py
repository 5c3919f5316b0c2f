"""A run that loses its lock, or that another process has taken over, ends at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.errors import RunLostError
from shared.ids import new_id
from shared.reconciliation import store
from shared.reconciliation.model import RunMode, RunState
from shared.reconciliation.run import only_run
from tests.integration.reconciliation.conftest import FOR_US, Books

if TYPE_CHECKING:
    from shared.db.pool import Pool


async def test_a_run_ends_when_its_lock_is_lost(pool: Pool, database_url: str) -> None:
    ended: list[str] = []

    async def hold() -> None:
        async with only_run(database_url, renewed_seconds=0.01):
            try:
                await pool.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'prepaid-reconcile-lock'"
                    " AND datname = current_database()"
                )
                await asyncio.Event().wait()
            finally:
                ended.append("body")

    with pytest.raises(RunLostError, match="lost its lock"):
        await hold()
    assert ended == ["body"]
    async with only_run(database_url):
        pass


async def test_what_the_holder_of_the_lock_raises_is_raised(database_url: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with only_run(database_url):
            raise ZeroDivisionError
    with pytest.raises(TimeoutError):
        async with only_run(database_url), asyncio.timeout(0):
            await asyncio.Event().wait()
    async with only_run(database_url):
        pass


@pytest.mark.parametrize("reached", ["payment_intents", "payment methods"])
async def test_a_run_that_was_taken_over_saves_nothing_more(books: Books, reached: str) -> None:
    """Its lists are compared up to one of them, or all: its end is all that is left."""
    begun = await books.begin(RunMode.REPORT)
    stopped = await books.stop_at(begun, reached)
    await books.pool.execute("DELETE FROM reconciliation_findings")
    async with books.pool.acquire() as connection:
        await store.interrupt_others(connection, new_id())
    await books.shop.refund(await books.shop.charge(**FOR_US))

    with pytest.raises(RunLostError, match="taken over"):
        await books.reconciliation.run(stopped)
    left = await books.stored(begun)
    assert (left.state, left.checked) == (RunState.INTERRUPTED, stopped.checked)
    assert await books.pool.fetchval("SELECT count(*) FROM reconciliation_findings") == 0
