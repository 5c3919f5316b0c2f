"""All SQL of replays: a batch, its progress and what it changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from shared.db.queries import beside
from shared.ids import transaction_public_id
from shared.inbox.admin.model import EventFilter, Place
from shared.outbound.model import MessageFilter
from shared.replay import rules
from shared.replay.model import (
    Batch,
    BatchFilter,
    BatchState,
    Effect,
    Failure,
    Kind,
    LedgerRow,
    OrganizationChange,
    OrganizationDiff,
    PostedRow,
    ReplayOptions,
)

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
_FILTERS: Mapping[Kind, type[BatchFilter]] = {
    Kind.EVENTS: EventFilter,
    Kind.MESSAGES: MessageFilter,
}


async def start(
    connection: Connection,
    kind: Kind,
    batch_id: UUID,
    holder: UUID,
    selection: Sequence[str] | BatchFilter,
    *,
    actor: str,
    reason: str | None,
    options: ReplayOptions,
) -> Batch | None:
    """Store a batch; None where another of its kind runs; one without a process is stopped."""
    await connection.execute(QUERIES.stop_abandoned, kind, rules.HOLDER_LEASE)
    row = await connection.fetchrow(
        QUERIES.start_batch,
        batch_id,
        kind,
        holder,
        None if isinstance(selection, BatchFilter) else list(selection),
        msgspec.to_builtins(selection) if isinstance(selection, BatchFilter) else None,
        actor,
        reason,
        msgspec.to_builtins(options),
    )
    return _batch(row) if row else None


async def resume(connection: Connection, kind: Kind, batch_id: UUID, holder: UUID) -> Batch | None:
    """Give a batch to another process; None where it is finished or does not exist.

    Another of its kind without a process is stopped. Raises UniqueViolationError, in a savepoint,
    where another runs.
    """
    async with connection.transaction():
        await connection.execute(QUERIES.stop_abandoned, kind, rules.HOLDER_LEASE)
        row = await connection.fetchrow(QUERIES.resume_batch, batch_id, holder)
    return _batch(row) if row else None


async def running(connection: Connection, kind: Kind) -> asyncpg.Record | None:
    """Return id, actor and start of the batch of a kind that runs."""
    return await connection.fetchrow(QUERIES.running, kind)


async def find(connection: Connection, kind: Kind, batch_id: UUID) -> Batch | None:
    """Return a batch with its progress."""
    row = await connection.fetchrow(QUERIES.batch, batch_id, kind)
    return _batch(row) if row else None


async def is_held(connection: Connection, batch_id: UUID, holder: UUID) -> bool:
    """Lock a batch; False where another process holds it, or it has ended."""
    return bool(await connection.fetch(QUERIES.lock_batch, batch_id, holder))


async def select_chunk(
    connection: Connection,
    batch_id: UUID,
    holder: UUID,
    ids: Sequence[str],
    *,
    after: Place | None,
    next_place: int,
) -> bool:
    """Note what is in flight, and where the selection continues; False where another holds it."""
    rows = await connection.fetch(
        QUERIES.select_chunk,
        batch_id,
        holder,
        list(ids),
        after.received_at if after else None,
        after.id if after else None,
        next_place,
    )
    return bool(rows)


async def count_results(
    connection: Connection,
    batch_id: UUID,
    holder: UUID,
    effects: Mapping[str, Effect],
    failures: Sequence[Failure],
) -> bool:
    """Count results of events in flight; False where another process holds the batch."""
    rows = await connection.fetch(
        QUERIES.count_results,
        batch_id,
        holder,
        list(effects),
        list(effects.values()),
        list(failures),
        rules.FAILURES_MAX,
    )
    return bool(rows)


async def add_changes(
    connection: Connection, batch_id: UUID, changes: Sequence[OrganizationChange]
) -> None:
    """Add what a transaction did to each organization."""
    pairs = [
        (change.organization_id, transaction_id)
        for change in changes
        for transaction_id in change.transaction_ids
    ]
    await connection.execute(
        QUERIES.add_changes,
        batch_id,
        [change.organization_id for change in changes],
        [change.before for change in changes],
        [change.after for change in changes],
        [len(change.transaction_ids) for change in changes],
        [organization_id for organization_id, _ in pairs],
        [transaction_id for _, transaction_id in pairs],
        rules.TRANSACTIONS_MAX,
    )


async def end(connection: Connection, batch_id: UUID, holder: UUID, state: BatchState) -> bool:
    """End a batch; False where another process holds it."""
    return bool(await connection.fetch(QUERIES.end_batch, batch_id, holder, state))


async def purge_changes(connection: Connection, *, retention: timedelta, rows_max: int) -> int:
    """Delete what old finished replays changed, of their reports; return how many rows."""
    return len(await connection.fetch(QUERIES.purge_changes, retention, rows_max))


async def purge_batches(connection: Connection, *, retention: timedelta, rows_max: int) -> int:
    """Delete old finished replays of which no changes are left; return how many."""
    return len(await connection.fetch(QUERIES.purge_batches, retention, rows_max))


async def changed_organizations(connection: Connection, batch_id: UUID) -> int:
    """Return how many organizations a batch changed."""
    count: int = await connection.fetchval(QUERIES.count_organizations, batch_id)
    return count


async def diff(connection: Connection, batch_id: UUID) -> list[OrganizationDiff]:
    """Return what a batch did to the first ORGANIZATIONS_MAX organizations."""
    rows = await connection.fetch(QUERIES.organizations, batch_id, rules.ORGANIZATIONS_MAX)
    ids = [each for row in rows for each in row["transaction_ids"]]
    posted: dict[UUID, list[LedgerRow]] = {}
    for row in await connection.fetch(QUERIES.ledger_rows, ids):
        posted.setdefault(row["organization_id"], []).append(
            LedgerRow(id=transaction_public_id(row["id"]), type=row["type"], amount=row["amount"])
        )
    return [
        OrganizationDiff(
            organizationId=str(row["organization_id"]),
            slug=row["slug"],
            before=row["balance_before"],
            after=row["balance_after"],
            transactions=[each["id"] for each in posted.get(row["organization_id"], ())],
            rows=posted.get(row["organization_id"], []),
        )
        for row in rows
    ]


async def organizations_now(
    connection: Connection, ids: Sequence[UUID]
) -> dict[UUID, asyncpg.Record]:
    """Return balances, auto-recharge and live attempts as this transaction sees them."""
    rows = await connection.fetch(QUERIES.organizations_now, list(ids))
    return {row["id"]: row for row in rows}


async def rows_of_transaction(connection: Connection, ids: Sequence[UUID]) -> list[PostedRow]:
    """Return the rows of organizations that are not older than the open transaction.

    Those are its own, and what others committed between its begin and its lock of the account:
    another connection tells them apart (`existing`).
    """
    rows = await connection.fetch(QUERIES.rows_of_transaction, list(ids), rules.ROWS_OF_ONE_MAX)
    return [PostedRow(**row) for row in rows]


async def existing(connection: Connection, rows: Sequence[PostedRow]) -> set[UUID]:
    """Return the ids of those rows that are in the ledger.

    On another connection than the one that posts: the rows that others have committed.
    """
    found = await connection.fetch(QUERIES.existing, [row.id for row in rows])
    return {row["id"] for row in found}


async def new_messages(connection: Connection, ids: Sequence[UUID]) -> list[asyncpg.Record]:
    """Return how many messages of each type this transaction has written for organizations."""
    return await connection.fetch(QUERIES.new_messages, list(ids))


def filter_text(selected: BatchFilter) -> dict[str, Any]:
    """Return a filter as JSON has it, without what it leaves open."""
    fields: dict[str, Any] = msgspec.to_builtins(selected)
    return {name: value for name, value in fields.items() if value is not None}


def _batch(row: asyncpg.Record) -> Batch:
    after = Place(row["after_at"], row["after_id"]) if row["after_at"] else None
    stored: Any = row["filter"]
    kind = Kind(row["kind"])
    return Batch(
        id=row["id"],
        kind=kind,
        holder=row["holder"],
        actor=row["actor"],
        reason=row["reason"],
        state=BatchState(row["state"]),
        ids=None if row["ids"] is None else tuple(row["ids"]),
        filter=None if stored is None else msgspec.convert(stored, _FILTERS[kind]),
        options=msgspec.convert(row["options"], ReplayOptions),
        until=row["until"],
        after=after,
        next_place=row["next_place"],
        in_flight=tuple(row["in_flight"]),
        selected=row["selected"],
        applied=row["applied"],
        noop=row["noop"],
        failed=row["failed"],
        failures=tuple(row["failures"][: rules.FAILURES_MAX]),
    )
