"""All SQL of the finance close."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.finance.model import (
    Credits,
    DeferredRevenue,
    FinanceClose,
    Head,
    Movements,
    StoredClose,
    decode,
    encode,
)
from shared.months import Month

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
# Credits at the end follow from these lines.
CREDITS = [line for line in Credits.__struct_fields__ if line != "closing"]
MONEY = DeferredRevenue.__struct_fields__


async def newest_transaction_id(connection: Connection) -> int:
    """Return an id above those of all transactions that have written by now."""
    number: int = await connection.fetchval(QUERIES.newest_transaction_id)
    return number


async def oldest_transaction_id(connection: Connection) -> int:
    """Return the lowest id of the transactions in progress that have written."""
    number: int = await connection.fetchval(QUERIES.oldest_transaction_id)
    return number


async def heads(connection: Connection, month: Month, *, after: UUID, limit: int) -> list[Head]:
    """Return a page of ledgers that have rows, in the order of their organizations."""
    rows = await connection.fetch(QUERIES.heads, after, month.start, month.end, limit)
    return [Head(**row) for row in rows]


async def movements(connection: Connection, heads: Sequence[Head]) -> list[Movements]:
    """Return the sums of the movements of some ledgers."""
    rows = await connection.fetch(
        QUERIES.movements,
        [head.organization_id for head in heads],
        [head.currency for head in heads],
        [head.before_seq for head in heads],
        [head.last_seq for head in heads],
    )
    return [_movements(row) for row in rows]


def _movements(row: asyncpg.Record) -> Movements:
    money = {line: int(row[f"{line}_minor"]) for line in MONEY} if row["paid"] else None
    return Movements(row["currency"], {line: row[line] for line in CREDITS}, money)


async def accounts(connection: Connection, heads: Sequence[Head]) -> dict[str, Decimal]:
    """Return what the rows of some ledgers added to each system account."""
    rows = await connection.fetch(
        QUERIES.accounts,
        [head.organization_id for head in heads],
        [head.before_seq for head in heads],
        [head.last_seq for head in heads],
    )
    return {row["account"]: row["amount"] for row in rows}


async def find(connection: Connection, month: Month) -> StoredClose | None:
    """Return the stored close of a month."""
    return _stored(await connection.fetchrow(QUERIES.stored, _date(month)))


async def latest_before(connection: Connection, month: Month) -> StoredClose | None:
    """Return the latest stored close of an earlier month."""
    return _stored(await connection.fetchrow(QUERIES.latest_before, _date(month)))


async def keep(connection: Connection, month: Month, close: FinanceClose) -> bool:
    """Store a close; return False if one is stored already, which stays."""
    stored = await connection.fetchval(QUERIES.keep, _date(month), close.closed_at, encode(close))
    return stored is not None


def _stored(row: asyncpg.Record | None) -> StoredClose | None:
    return StoredClose(decode(row["document"]), row["sha256"]) if row else None


def _date(month: Month) -> date:
    return month.start.date()
