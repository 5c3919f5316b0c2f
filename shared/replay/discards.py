"""Discards what matches a filter, chunk by chunk: the same for events and for messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from shared.access import service as audit
from shared.ids import new_id
from shared.replay import rules
from shared.replay.model import BatchFilter, Kind
from shared.replay.store import filter_text

if TYPE_CHECKING:
    from shared.access.model import Actor
    from shared.db.pool import Connection, Connections

Place = TypeVar("Place")
NAMES_MAX = 200


@dataclass(frozen=True, slots=True)
class Discarded:
    """How many were discarded, a message once for each endpoint, and the first of their ids."""

    count: int
    ids: list[str]


@dataclass(frozen=True, slots=True)
class Chunk(Generic[Place]):
    """What a transaction discarded, an id for each, and the place where the next one begins."""

    ids: Sequence[str]
    after: Place


async def discard_matching(
    pool: Connections,
    kind: Kind,
    wanted: BatchFilter,
    discard: Callable[[Connection, Place | None], Awaitable[Chunk[Place] | None]],
    *,
    actor: Actor | str,
    reason: str,
) -> Discarded:
    """Discard chunk after chunk; each commits with its audit entry, under one subject for all.

    `discard` discards the next chunk after a place; None: nothing is left. Raises ValidationError
    for a moment in the future.
    """
    rules.check_since(wanted.since, datetime.now(UTC))
    batch_id, count, first = new_id(), 0, dict[str, None]()
    after: Place | None = None
    while True:
        async with pool.acquire() as connection, connection.transaction():
            chunk = await discard(connection, after)
            if chunk is None:
                return Discarded(count, list(first))
            await audit.record(
                connection,
                actor=actor,
                action=f"{kind}.discard",
                subject=str(batch_id),
                reason=reason,
                details={"filter": filter_text(wanted), kind.value: sorted(set(chunk.ids))},
            )
        after = chunk.after
        count += len(chunk.ids)
        first |= dict.fromkeys(chunk.ids[: NAMES_MAX - len(first)])
