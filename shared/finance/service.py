"""Closing a month: computed once, from the rows until its end, and stored for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.access import service as audit
from shared.errors import UnavailableError
from shared.finance import rules, store
from shared.finance.model import StoredClose
from shared.months import Month

if TYPE_CHECKING:
    from shared.db.pool import Connection

LEDGERS_AT_ONCE = 100
# How long to wait for transactions that may still add rows of the month.
WAIT_SECONDS_MAX = 60.0
POLL_SECONDS = 0.1


async def close(
    connection: Connection,
    month: Month,
    *,
    now: datetime,
    actor: str,
    progress: Callable[[int], None] = lambda _organizations: None,
) -> StoredClose:
    """Return the close of a month; the first call computes and stores it.

    Outside a transaction: it reads some ledgers at a time, and nothing that it reads of an ended
    month changes. Raises ConflictError for a month that has not ended, UnavailableError while a
    transaction that may belong to it is in progress, and UnbalancedCloseError where a sum does not
    tie.
    """
    if stored := await store.find(connection, month):
        return stored
    rules.check_ended(month, now=now)
    await _finish_transactions(connection)
    sums = await _sums(connection, month, progress)
    previous = await store.latest_before(connection, month)
    computed = rules.compose(month, sums, previous, now=now)
    async with connection.transaction():
        if await store.keep(connection, month, computed):
            await audit.record(connection, actor=actor, action="finance.close", subject=str(month))
    stored = await store.find(connection, month)
    assert stored is not None  # noqa: S101 - it was stored above, or by another at the same time
    return stored


async def _sums(
    connection: Connection, month: Month, progress: Callable[[int], None]
) -> rules.Sums:
    sums = rules.Sums()
    after = UUID(int=0)
    while heads := await store.heads(connection, month, after=after, limit=LEDGERS_AT_ONCE):
        for head in heads:
            sums.add_head(head)
        for moved in await store.movements(connection, heads):
            sums.add_movements(moved)
        sums.add_accounts(await store.accounts(connection, heads))
        after = heads[-1].organization_id
        progress(sums.organizations)
    return sums


async def _finish_transactions(connection: Connection) -> None:
    """Wait until every transaction has ended that was writing when this began."""
    upper = await store.newest_transaction_id(connection)
    try:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while await store.oldest_transaction_id(connection) < upper:  # noqa: ASYNC110 - no event
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise UnavailableError(
            f"A transaction has been in progress for {WAIT_SECONDS_MAX:.0f} seconds, and may add"
            " rows of the month. Retry when it has ended (pg_stat_activity)."
        ) from None
