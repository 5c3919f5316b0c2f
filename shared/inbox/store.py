"""All SQL of receiving, claiming and finishing events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.inbox import rules
from shared.inbox.model import ClaimedEvent, Delivery, EventKey, EventOutcome, EventState, Lane
from shared.inbox.retention import store as retention

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
BACKLOG_ROWS_MAX = 100_000


async def receive(connection: Connection, deliveries: Sequence[Delivery]) -> set[EventKey]:
    """Insert new events, without client secrets; return the keys of the new rows."""
    headers = [delivery.header for delivery in deliveries]
    rows = await connection.fetch(
        QUERIES.receive,
        [header.account or "" for header in headers],
        [header.livemode for header in headers],
        [header.id for header in headers],
        [header.type for header in headers],
        [header.api_version for header in headers],
        [header.created for header in headers],
        [rules.without_client_secrets(delivery.payload) for delivery in deliveries],
        [delivery.request_id for delivery in deliveries],
        [delivery.quarantine for delivery in deliveries],
    )
    return {_key(row) for row in rows}


async def claim(
    connection: Connection,
    *,
    rows_max: int,
    token: UUID,
    lease: timedelta,
    lane: Lane = Lane.SHARED,
) -> list[ClaimedEvent]:
    """Lease up to `rows_max` due events of a lane under a token, oldest first.

    An event whose lease expires is due again in `lane.after_a_lost_lease`; after the second one in
    a row, in Lane.SUSPECT.
    """
    rows = await connection.fetch(
        QUERIES.claim, rows_max, token, lease, lane, lane.after_a_lost_lease
    )
    return [_claimed(row, types_paused=row["types_paused"]) for row in rows]


async def due_in(connection: Connection, lanes: Iterable[Lane]) -> dict[Lane, float]:
    """Return in how many seconds the next event of each lane is due, by PostgreSQL's clock.

    Not above 0: it is due. A lane without open events is absent.
    """
    rows = await connection.fetch(QUERIES.due_in, list(lanes))
    return {Lane(row["lane"]): row["seconds"] for row in rows}


async def claim_for_replay(
    connection: Connection,
    ids: Sequence[str],
    *,
    token: UUID,
    lease: timedelta,
    livemode: bool,
    accounts: Iterable[str],
    without_payload: bool = False,
) -> list[ClaimedEvent]:
    """Lease events by id in any state; those of another mode or account are skipped.

    An event whose payload was deleted is skipped too, unless `without_payload`.
    """
    rows = await connection.fetch(
        QUERIES.claim_for_replay,
        list(ids),
        token,
        lease,
        livemode,
        list(accounts),
        without_payload,
    )
    return [_claimed(row) for row in rows]


async def finish(
    connection: Connection,
    token: UUID,
    outcomes: Sequence[EventOutcome],
    *,
    types_recovered: Iterable[str] = (),
) -> int:
    """Record outcomes; return the number of events whose lease this token still held.

    Resets the count of consecutive failures of the recovered types. An event of an erased
    organization loses its payload with its outcome.
    """
    rows = await connection.fetch(
        QUERIES.finish,
        token,
        *_key_columns([outcome.key for outcome in outcomes]),
        [outcome.state for outcome in outcomes],
        [_storable(outcome.reason) for outcome in outcomes],
        [_storable(outcome.error_class) for outcome in outcomes],
        [_storable(outcome.error_trace) for outcome in outcomes],
        [outcome.retry_in for outcome in outcomes],
        [outcome.organization_id for outcome in outcomes],
        list(types_recovered),
        [outcome.waits_for for outcome in outcomes],
        [outcome.lane for outcome in outcomes],
    )
    erased = [_key(row) for row in rows if row["erased"]]
    if erased:
        await retention.delete_payloads_of(connection, erased)
    return len(rows)


async def lock_waiting(connection: Connection, stripe_id: str) -> None:
    """Lock an id that an event is about to wait for, before the event is ignored."""
    await connection.execute(QUERIES.lock_waiting, stripe_id)


async def reopen_waiting(connection: Connection, stripe_ids: Sequence[str]) -> None:
    """Reopen the events that were ignored because no organization had one of these ids.

    Call it in the transaction that binds the ids. With `lock_waiting`, an event that is ignored
    concurrently is either reopened here, or is applied because it reads the organization.
    """
    await connection.execute(QUERIES.reopen_waiting, stripe_ids)


async def release(
    connection: Connection,
    token: UUID,
    keys: Sequence[EventKey],
    *,
    lane: Lane,
    due_in: timedelta = timedelta(0),
) -> None:
    """Release leased events to a lane, without counting the attempt."""
    await connection.execute(QUERIES.release, token, *_key_columns(keys), due_in, lane)


async def renew(
    connection: Connection, token: UUID, keys: Sequence[EventKey], lease: timedelta
) -> set[EventKey]:
    """Extend the lease on events from now; return those still leased under this token."""
    rows = await connection.fetch(QUERIES.renew, token, *_key_columns(keys), lease)
    return {_key(row) for row in rows}


async def keep(
    connection: Connection, token: UUID, keys: Sequence[EventKey], lease: timedelta
) -> None:
    """Extend the lease on events from now, where this token still holds it; wait for no lock."""
    await connection.execute(QUERIES.keep, token, *_key_columns(keys), lease)


async def count_failure(connection: Connection, event_type: str) -> int:
    """Count an unexpected failure of a type; return the number of consecutive ones."""
    count: int = await connection.fetchval(QUERIES.count_failure, event_type)
    return count


async def pause_type(connection: Connection, event_type: str, pause: timedelta) -> None:
    """Pause claims of a type, by PostgreSQL's clock."""
    await connection.execute(QUERIES.pause_type, event_type, pause)


async def backlog(connection: Connection) -> dict[EventState, tuple[int, float]]:
    """Return (events, age of the oldest due one in seconds) for each open or dead state.

    Counting ends at BACKLOG_ROWS_MAX.
    """
    rows = await connection.fetch(QUERIES.backlog, BACKLOG_ROWS_MAX)
    return {EventState(row["state"]): (row["events"], row["oldest_seconds"]) for row in rows}


async def pending(connection: Connection) -> int:
    """Return the number of unfinished events."""
    count: int = await connection.fetchval(QUERIES.pending)
    return count


def _storable(text: str | None) -> str | None:
    """Escape what PostgreSQL refuses in text: NUL and lone surrogates.

    The text of an error may come from the event's data.
    """
    if text is None:
        return None
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def _key(row: asyncpg.Record) -> EventKey:
    return EventKey(account=row["account"], livemode=row["livemode"], id=row["id"])


def _key_columns(keys: Sequence[EventKey]) -> tuple[list[str], list[bool], list[str]]:
    return (
        [key.account for key in keys],
        [key.livemode for key in keys],
        [key.id for key in keys],
    )


def _claimed(row: asyncpg.Record, *, types_paused: bool = False) -> ClaimedEvent:
    return ClaimedEvent(
        key=_key(row),
        type=row["type"],
        api_version=row["api_version"],
        payload=row["payload"],
        attempts=row["attempts"],
        received_at=row["received_at"],
        request_id=row["request_id"],
        leases_lost=row["leases_lost"],
        payload_deleted_at=row["payload_forgotten_at"],
        types_paused=types_paused,
    )
