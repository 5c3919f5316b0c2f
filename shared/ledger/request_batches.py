"""Batches that requests bring: those of one organization that come together share a commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import asyncpg

from shared.db.group_commit import GroupCommit
from shared.db.pool import UNAVAILABLE
from shared.ledger import service
from shared.ledger.model import Posting, PostingResult

if TYPE_CHECKING:
    from shared.db.pool import Connections

Results = list[PostingResult]

# Of one organization: while one statement has its account locked, the next is sent.
STATEMENTS_AT_ONCE_MAX = 2
# Batches of up to 1,000 postings each.
BATCHES_OF_STATEMENT_MAX = 4
WAITING_BATCHES_MAX = 100
ORGANIZATIONS_BEFORE_PRUNING = 100


class _Batch(NamedTuple):
    """The postings of a request, and when it arrived."""

    postings: Sequence[Posting]
    now: datetime


class RequestBatches:
    """Posts batches of one organization each, and waits for no other organization.

    A batch alone is posted at once. Those that arrive while the organization's account is locked
    share the next statement: they would wait for the lock one after the other, each with a commit
    of its own.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._organizations: dict[UUID, GroupCommit[_Batch, Results]] = {}
        self._prune_at = ORGANIZATIONS_BEFORE_PRUNING

    async def post(
        self, organization_id: UUID, postings: Sequence[Posting], *, now: datetime
    ) -> Results:
        """Return a result for each posting of an organization, in order, after their commit.

        Raises UnavailableError where too many batches of the organization wait already.
        """
        if organization_id not in self._organizations:
            if len(self._organizations) >= self._prune_at:
                self._organizations = {
                    o: commits for o, commits in self._organizations.items() if not commits.is_idle
                }
                self._prune_at = max(ORGANIZATIONS_BEFORE_PRUNING, 2 * len(self._organizations))
            self._organizations[organization_id] = GroupCommit(
                self._flush,
                flushes_at_once_max=STATEMENTS_AT_ONCE_MAX,
                batch_rows_max=BATCHES_OF_STATEMENT_MAX,
                pending_rows_max=WAITING_BATCHES_MAX,
            )
        return await self._organizations[organization_id].submit(_Batch(postings, now))

    async def close(self) -> None:
        """Wait for the batches in progress."""
        for commits in self._organizations.values():
            await commits.drain()

    async def _flush(self, batches: Sequence[_Batch]) -> Sequence[Results | Exception]:
        try:
            return await self._post(batches)
        except asyncpg.QueryCanceledError:
            if len(batches) == 1:
                raise
        except asyncpg.PostgresError as error:
            if len(batches) == 1 or isinstance(error, UNAVAILABLE):
                raise
        # One batch failed the statement, or all took too long together: each is posted alone.
        return [await self._post_alone(batch) for batch in batches]

    async def _post_alone(self, batch: _Batch) -> Results | Exception:
        try:
            (results,) = await self._post([batch])
        except asyncpg.PostgresError as error:
            return error
        return results

    async def _post(self, batches: Sequence[_Batch]) -> list[Results]:
        postings = [posting for batch in batches for posting in batch.postings]
        now = max(batch.now for batch in batches)
        # One statement is a transaction of its own.
        async with self._connections.acquire() as connection:
            results = iter(await service.post(connection, postings, now=now))
        return [[next(results) for _ in batch.postings] for batch in batches]
