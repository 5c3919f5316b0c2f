"""Shared batches of debits, and a separate lane for an organization that would delay them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from shared.db.group_commit import GroupCommit
from shared.db.pool import UNAVAILABLE
from shared.errors import UnavailableError
from shared.ledger import service
from shared.ledger.model import Deferral, Posting, PostingResult
from shared.ledger.nodes import Nodes

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

Outcome = PostingResult | Deferral
Flush = Callable[[Sequence[Posting]], Awaitable[Sequence[PostingResult | Exception]]]

BATCH_ROWS_MAX = 500
# Of one PostgreSQL, or of one node of a cluster: one that is frozen leaves as many to the others.
FLUSHES_OF_NODE_MAX = 2
FLUSHES_AT_ONCE_MAX = 2 * FLUSHES_OF_NODE_MAX
# The grants that a shared batch reads for one organization: some milliseconds of work.
SHARED_GRANTS_MAX = 20
# Longer than another process's batch takes, as a rule.
CONTENDED_LOCK_MILLISECONDS_MAX = 50
LANES_AT_ONCE_MAX = 3
# The concurrent requests that a process accepts of an organization: a lane refuses none of them.
LANE_ROWS_MAX = 2_500
LANE_LOCK_MILLISECONDS_MAX = 2_000
LANES_BEFORE_PRUNING = 100
LANE_TURN_SECONDS_MAX = 5
RETRY_AFTER_SECONDS = 2


class Ledger:
    """Posts for callers with one posting each: concurrent callers share a commit.

    An idle caller is posted at once; under load a batch is what arrived during the last one. No
    batch waits for an organization. One whose account is locked is retried once in a batch that
    waits briefly (another process may have it in a batch); then, or where its postings are long
    work, it moves to a lane of its own. On a cluster, a shared batch is of one node.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._nodes = Nodes(pool)
        self._shared = GroupCommit[Posting, Outcome](
            self._flush_shared,
            flushes_at_once_max=FLUSHES_AT_ONCE_MAX,
            flushes_of_partition_max=FLUSHES_OF_NODE_MAX,
            batch_rows_max=BATCH_ROWS_MAX,
            group_of=_organization_of,
            partition_of=self._nodes.node_of,
        )
        self._contended = GroupCommit[Posting, Outcome](
            self._flush_contended,
            flushes_at_once_max=2,
            flushes_of_partition_max=1,
            batch_rows_max=BATCH_ROWS_MAX,
            group_of=_organization_of,
            partition_of=self._nodes.node_of,
        )
        at_once_max = min(LANES_AT_ONCE_MAX, max(1, pool.get_max_size() // 3))
        self._lanes = Lanes(self._flush_lane, at_once_max=at_once_max)

    async def post(self, posting: Posting) -> PostingResult:
        """Return the result after the transaction of the row has committed.

        Raises UnavailableError where the organization's account stays locked, or its lane is
        full. Nothing was posted then.
        """
        self._nodes.keep_current()
        if posting.organization_id not in self._lanes:
            outcome = await self._shared.submit(posting)
            if outcome is Deferral.BUSY:
                outcome = await self._contended.submit(posting)
            if not isinstance(outcome, Deferral):
                return outcome
        return await self._lanes.submit(posting)

    async def close(self) -> None:
        """Wait for the postings in progress."""
        await self._shared.drain()
        await self._contended.drain()
        await self._lanes.drain()
        await self._nodes.close()

    async def _flush_shared(self, postings: Sequence[Posting]) -> list[Outcome | Exception]:
        return await self._flush(postings, lock_milliseconds_max=0)

    async def _flush_contended(self, postings: Sequence[Posting]) -> list[Outcome | Exception]:
        return await self._flush(postings, lock_milliseconds_max=CONTENDED_LOCK_MILLISECONDS_MAX)

    async def _flush(
        self, postings: Sequence[Posting], *, lock_milliseconds_max: int
    ) -> list[Outcome | Exception]:
        try:
            async with self._pool.acquire() as connection:
                return await self._post(
                    connection,
                    postings,
                    lock_milliseconds_max=lock_milliseconds_max,
                    grants_max=SHARED_GRANTS_MAX,
                )
        except asyncpg.PostgresError as error:
            if not _is_of_one(error):
                raise
            # One organization failed the batch, and it is unknown which: each continues alone.
            return [Deferral.HEAVY for _ in postings]

    async def _flush_lane(self, postings: Sequence[Posting]) -> list[PostingResult | Exception]:
        try:
            async with self._pool.acquire() as connection:
                outcomes = await self._post(
                    connection,
                    postings,
                    lock_milliseconds_max=LANE_LOCK_MILLISECONDS_MAX,
                    grants_max=None,
                )
        except asyncpg.LockNotAvailableError:
            return [_locked() for _ in postings]
        return [o if isinstance(o, PostingResult) else _locked() for o in outcomes]

    async def _post(
        self,
        connection: Connection,
        postings: Sequence[Posting],
        *,
        lock_milliseconds_max: int,
        grants_max: int | None,
    ) -> list[Outcome | Exception]:
        # One statement is a transaction of its own: it commits before it answers, so that the
        # accounts are not locked while the answer travels.
        return list(
            await service.post_shared(
                connection,
                postings,
                lock_milliseconds_max=lock_milliseconds_max,
                grants_max=grants_max,
            )
        )


class Lanes:
    """A lane for each organization that is posted separately: bounded in rows, time, connections.

    A lane is active while a posting waits in it; a few lanes work at once, in turn.
    """

    def __init__(self, flush: Flush, *, at_once_max: int) -> None:
        self._flush = flush
        self._turns = asyncio.Semaphore(at_once_max)
        self._lanes: dict[UUID, GroupCommit[Posting, PostingResult]] = {}
        self._prune_at = LANES_BEFORE_PRUNING
        self._context = copy_context()

    def __contains__(self, organization_id: UUID) -> bool:
        """Whether an organization has an active lane: its new postings go there too."""
        lane = self._lanes.get(organization_id)
        return lane is not None and not lane.is_idle

    async def submit(self, posting: Posting) -> PostingResult:
        """Return the result after the commit; raise UnavailableError beyond the lane's limits."""
        organization_id = posting.organization_id
        if organization_id not in self._lanes:
            if len(self._lanes) >= self._prune_at:
                self._lanes = {o: lane for o, lane in self._lanes.items() if not lane.is_idle}
                self._prune_at = max(LANES_BEFORE_PRUNING, 2 * len(self._lanes))
            self._lanes[organization_id] = GroupCommit(
                self._flush_in_turn,
                batch_rows_max=BATCH_ROWS_MAX,
                pending_rows_max=LANE_ROWS_MAX,
                context=self._context,
            )
        return await self._lanes[organization_id].submit(posting)

    async def drain(self) -> None:
        """Wait for the active lanes."""
        await asyncio.gather(*(lane.drain() for lane in self._lanes.values()))

    async def _flush_in_turn(
        self, postings: Sequence[Posting]
    ) -> Sequence[PostingResult | Exception]:
        try:
            async with asyncio.timeout(LANE_TURN_SECONDS_MAX):
                await self._turns.acquire()
        except TimeoutError:
            return [_locked() for _ in postings]
        try:
            return await self._flush(postings)
        finally:
            self._turns.release()


def _organization_of(posting: Posting) -> UUID:
    return posting.organization_id


def _is_of_one(error: asyncpg.PostgresError) -> bool:
    """Whether an error may be about one organization's rows, and not about the server."""
    return isinstance(
        error, (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
    ) or not isinstance(error, UNAVAILABLE)


def _locked() -> UnavailableError:
    return UnavailableError(
        "The organization's account is busy with other work; try again.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
