"""SQL that clears delivered messages and the details of ended attempts after a retention time."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from shared.db.queries import beside
from shared.durations import Duration

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def clear_messages(connection: Connection, *, retention: Duration, rows_max: int) -> int:
    """Clear the bodies of messages that were delivered before the retention; return how many."""
    count: int = await connection.fetchval(
        QUERIES.clear_messages, retention.months, retention.time, rows_max
    )
    return count


async def clear_attempt_details(
    connection: Connection, *, retention: Duration, rows_max: int
) -> int:
    """Remove Stripe's texts from attempts that ended before the retention; return how many.

    State, reason, amounts, ids and the decline code stay.
    """
    cleared = 0
    months, time = retention.months, retention.time
    for row in await connection.fetch(QUERIES.with_attempt_details, months, time, rows_max):
        if cleared >= rows_max:
            break
        cleared += len(
            await connection.fetch(
                QUERIES.clear_attempt_details, row["organization_id"], months, time,
                rows_max - cleared,
            )
        )  # fmt: skip
    return cleared


async def oldest_message(connection: Connection) -> datetime | None:
    """Return when the oldest delivered message that still has its body was delivered."""
    time: datetime | None = await connection.fetchval(QUERIES.oldest_message)
    return time


async def oldest_attempt_detail(connection: Connection) -> datetime | None:
    """Return when the oldest ended attempt that still has a text of Stripe ended."""
    time: datetime | None = await connection.fetchval(QUERIES.oldest_attempt_detail)
    return time
