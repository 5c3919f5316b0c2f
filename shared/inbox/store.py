"""The inbox's SQL, and nothing else that speaks SQL to the inbox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.durations import Duration
from shared.inbox import rules
from shared.inbox.model import ClaimedEvent, Delivery, EventKey, EventOutcome, EventState, Lane

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
BACKLOG_ROWS_MAX = 100_000

# Those that `stripe_events_in_state` has.
_RARE = frozenset(
    {EventState.DEAD, EventState.DISCARDED, EventState.QUARANTINED, EventState.RETRYING}
)


async def receive(connection: Connection, deliveries: Sequence[Delivery]) -> set[EventKey]:
    """Insert what is not there yet, without client secrets; return the keys of the new rows."""
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

    One whose lease runs out is due again in the lane that comes after a lost lease.
    """
    rows = await connection.fetch(
        QUERIES.claim, rows_max, token, lease, lane, lane.after_a_lost_lease
    )
    return [_claimed(row) for row in rows]


async def claim_for_replay(
    connection: Connection,
    ids: Sequence[str],
    *,
    token: UUID,
    lease: timedelta,
    livemode: bool,
    accounts: Iterable[str],
) -> list[ClaimedEvent]:
    """Lease named events whatever their state; those of another mode or account are left alone."""
    rows = await connection.fetch(
        QUERIES.claim_for_replay, list(ids), token, lease, livemode, list(accounts)
    )
    return [_claimed(row) for row in rows]


async def finish(
    connection: Connection,
    token: UUID,
    outcomes: Sequence[EventOutcome],
    *,
    types_recovered: Iterable[str] = (),
) -> int:
    """Record outcomes under the fence; return how many rows were still ours.

    Types that are named as recovered have their row of failures ended.
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
    return len(rows)


async def limit_waits(
    connection: Connection, *, lock_milliseconds: int, statement_milliseconds: int
) -> None:
    """Bound the waits of the statements that follow in this transaction, and no others."""
    await connection.execute(
        QUERIES.limit_waits, f"{lock_milliseconds}ms", f"{statement_milliseconds}ms"
    )


async def lock_waiting(connection: Connection, stripe_id: str) -> None:
    """Take an id that an event is about to wait for, before it is ignored for want of its owner."""
    await connection.execute(QUERIES.lock_waiting, stripe_id)


async def reopen_waiting(connection: Connection, stripe_ids: Sequence[str]) -> None:
    """Let the events be applied that were ignored because nobody owned one of these ids.

    In the transaction that gives them an owner: an event that is ignored at the same moment is
    either seen here, or sees the owner (`lock_waiting`).
    """
    await connection.execute(QUERIES.lock_owned, stripe_ids)
    await connection.execute(QUERIES.reopen_waiting, stripe_ids)


async def release(
    connection: Connection,
    token: UUID,
    keys: Sequence[EventKey],
    *,
    lane: Lane,
    due_in: timedelta = timedelta(0),
) -> None:
    """Give leased events back to a lane, the attempt not counted."""
    await connection.execute(QUERIES.release, token, *_key_columns(keys), due_in, lane)


async def renew(
    connection: Connection, token: UUID, keys: Sequence[EventKey], lease: timedelta
) -> set[EventKey]:
    """Extend the lease on events from now on; return those that are still ours."""
    rows = await connection.fetch(QUERIES.renew, token, *_key_columns(keys), lease)
    return {_key(row) for row in rows}


async def count_failure(connection: Connection, event_type: str) -> int:
    """Count an unexpected failure of a type; return how many there were in a row."""
    count: int = await connection.fetchval(QUERIES.count_failure, event_type)
    return count


async def pause_type(connection: Connection, event_type: str, pause: timedelta) -> None:
    """Keep a type from being claimed for so long, by PostgreSQL's clock."""
    await connection.execute(QUERIES.pause_type, event_type, pause)


async def backlog(connection: Connection) -> dict[EventState, tuple[int, float]]:
    """Return (events, age of the oldest due one in seconds) for each open or dead state.

    It counts to BACKLOG_ROWS_MAX: that many stand for more.
    """
    rows = await connection.fetch(QUERIES.backlog, BACKLOG_ROWS_MAX)
    return {EventState(row["state"]): (row["events"], row["oldest_seconds"]) for row in rows}


async def pending(connection: Connection) -> int:
    """Return how many events a worker still has to finish."""
    count: int = await connection.fetchval(QUERIES.pending)
    return count


async def list_events(
    connection: Connection,
    *,
    state: str | None,
    event_type: str | None,
    since: datetime | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Return a page of events, newest first."""
    moment, event_id = after or (None, None)
    query = QUERIES.list_in_rare_state if state in _RARE else QUERIES.list_events
    return await connection.fetch(query, state, event_type, since, moment, event_id, limit)


async def show_event(connection: Connection, event_id: str) -> list[asyncpg.Record]:
    """Return every stored event with this id (one for each account and mode)."""
    return await connection.fetch(QUERIES.show_event, event_id)


async def select_for_replay(
    connection: Connection,
    *,
    state: str,
    event_type: str | None,
    since: datetime | None,
    limit: int,
) -> list[str]:
    """Return the ids that a replay's filters name, oldest first."""
    query = QUERIES.select_rare_for_replay if state in _RARE else QUERIES.select_for_replay
    rows = await connection.fetch(query, state, event_type, since, limit)
    return [row["id"] for row in rows]


async def deleted_payloads(connection: Connection, ids: Sequence[str]) -> dict[str, datetime]:
    """Return when those of some events that have lost their payloads lost them."""
    rows = await connection.fetch(QUERIES.deleted_payloads, ids)
    return {row["id"]: row["payload_forgotten_at"] for row in rows}


async def remove_client_secrets(connection: Connection, *, rows_max: int) -> int:
    """Take client secrets out of events that an older release has stored; return how many."""
    count: int = await connection.fetchval(QUERIES.remove_client_secrets, rows_max)
    return count


async def delete_payloads(connection: Connection, *, retention: Duration, rows_max: int) -> int:
    """Forget the payloads of events that finished longer ago; return how many."""
    count: int = await connection.fetchval(
        QUERIES.delete_payloads, retention.months, retention.time, rows_max
    )
    return count


async def discard(connection: Connection, event_id: str, reason: str) -> bool:
    """Close an event for good; False when there is none that could be closed."""
    return bool(await connection.fetch(QUERIES.discard, event_id, reason))


def _storable(text: str | None) -> str | None:
    """Write a text so that PostgreSQL takes it: NUL and halves of surrogate pairs as escapes.

    What an error says may come from the event's own data.
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


def _claimed(row: asyncpg.Record) -> ClaimedEvent:
    return ClaimedEvent(
        key=_key(row),
        type=row["type"],
        api_version=row["api_version"],
        payload=row["payload"],
        attempts=row["attempts"],
        received_at=row["received_at"],
        request_id=row["request_id"],
        leases_lost=row["leases_lost"],
    )
