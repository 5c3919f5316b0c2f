"""All SQL of holds."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.ledger.holds.model import Hold, HoldResult, HoldStatus, NewHold, PostedHold
from shared.ledger.model import InsufficientCredits, PostingStatus, RefusedPosting, Shortfall
from shared.ledger.store import budget_exceeded

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
_FIELDS = Hold.__struct_fields__


async def hold(connection: Connection, new: NewHold, *, digest: str) -> HoldResult:
    """Reserve an amount under the account's lock."""
    (row,) = await connection.fetch(
        QUERIES.hold,
        new.organization_id,
        new.id,
        new.amount,
        float(new.seconds),
        new.key,
        digest,
        new.description,
        new.user_id,
        new.category,
        new.metadata,
    )
    if row["result"] == PostingStatus.BUDGET_EXCEEDED:
        return budget_exceeded(new.organization_id, row["budget"])
    if row["result"] != PostingStatus.INSUFFICIENT:
        return _result(new.organization_id, row)
    shortfall = Shortfall(
        required=new.amount,
        available=row["available_now"],
        balance=row["balance_now"],
        held=row["held_now"],
    )
    return InsufficientCredits(organization_id=new.organization_id, shortfall=shortfall)


async def release(
    connection: Connection,
    organization_id: UUID,
    hold_id: UUID,
    *,
    status: HoldStatus = HoldStatus.RELEASED,
) -> HoldResult:
    """End a hold under the account's lock, without using what it still reserves."""
    (row,) = await connection.fetch(QUERIES.release, organization_id, hold_id, status)
    return _result(organization_id, row)


async def extend(
    connection: Connection, organization_id: UUID, hold_id: UUID, seconds: int
) -> HoldResult:
    """Move a hold's expiry to a later moment under the account's lock."""
    (row,) = await connection.fetch(QUERIES.extend, organization_id, hold_id, float(seconds))
    return _result(organization_id, row)


async def page(
    connection: Connection,
    organization_id: UUID,
    *,
    before: UUID | None,
    status: str | None,
    limit: int,
) -> list[Hold]:
    """Return a page of holds, newest first, with an id below `before`."""
    beyond = before or UUID(int=(1 << 128) - 1)
    if status is None:
        rows = await connection.fetch(QUERIES.page, organization_id, beyond, limit)
    else:
        rows = await connection.fetch(QUERIES.page_in_state, organization_id, beyond, status, limit)
    return [_hold(row) for row in rows]


async def find(connection: Connection, organization_id: UUID, hold_id: UUID) -> Hold | None:
    """Return a hold."""
    row = await connection.fetchrow(QUERIES.find, organization_id, hold_id)
    return None if row is None else _hold(row)


async def find_many(
    connection: Connection, organization_id: UUID, hold_ids: Collection[UUID]
) -> dict[UUID, Hold]:
    """Return the holds with these ids, by id; unknown ones are left out."""
    rows = await connection.fetch(QUERIES.find_many, organization_id, list(hold_ids))
    return {row["id"]: _hold(row) for row in rows}


async def find_by_key(connection: Connection, organization_id: UUID, key: str) -> Hold | None:
    """Return the hold that was made under a key."""
    row = await connection.fetchrow(QUERIES.find_by_key, organization_id, key)
    return None if row is None else _hold(row)


async def find_replayed(
    connection: Connection, organization_id: UUID, key: str, digest: str
) -> Hold | None:
    """Return the hold that the same request made under a key."""
    row = await connection.fetchrow(QUERIES.find_replayed, organization_id, key, digest)
    return None if row is None else _hold(row)


async def closing_capture(connection: Connection, hold: Hold) -> UUID | None:
    """Return the id of the row that closed a hold; None where none did."""
    if hold.captured_by is not None:
        return hold.captured_by
    found: UUID | None = await connection.fetchval(
        QUERIES.closing_capture, hold.organization_id, hold.id
    )
    return found


def _hold(row: asyncpg.Record) -> Hold:
    return Hold(**{name: row[name] for name in _FIELDS})


def _result(organization_id: UUID, row: asyncpg.Record) -> HoldResult:
    status = PostingStatus(row["result"])
    if status in (PostingStatus.POSTED, PostingStatus.REPLAYED):
        return PostedHold(status=status, hold=_hold(row))
    return RefusedPosting(organization_id=organization_id, status=status)
