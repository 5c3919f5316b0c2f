"""The statement of an organization for a month, from its rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared.months import Month
from shared.statements import rules, store
from shared.statements.model import Statement

if TYPE_CHECKING:
    from shared.db.pool import Connection

CLOCKS_DIFFER_MAX = timedelta(minutes=5)


async def statement(
    connection: Connection, organization_id: UUID, month: Month, *, now: datetime
) -> Statement:
    """Return a statement; of the current month, until now.

    Outside a transaction: it first waits for postings in progress, whose rows may still be of a
    month that has ended. Rows are only added, and created_at never goes back, so that the rows of
    such a month are then complete. A month counts as ended five minutes later, since the clocks of
    processes and of PostgreSQL differ.
    """
    complete = month.end + CLOCKS_DIFFER_MAX <= now
    if complete:
        await store.finish_postings(connection, organization_id)
    opening = await store.position(connection, organization_id, month.start)
    closing = await store.position(connection, organization_id, month.end)
    totals = await store.totals(
        connection,
        organization_id,
        after=opening.seq,
        through=closing.seq,
        categories_max=rules.CATEGORIES_MAX,
    )
    return rules.compose(
        organization_id,
        month,
        complete=complete,
        opening=opening,
        closing=closing,
        totals=totals,
    )
