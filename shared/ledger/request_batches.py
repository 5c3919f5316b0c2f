"""Batches that requests bring: those of one organization that come together share a commit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import asyncpg

from shared.db.group_commit import GroupCommit
from shared.db.pool import UNAVAILABLE
from shared.errors import UnavailableError
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
    """The postings of a request, when it arrived, and whose it is."""

    postings: Sequence[Posting]
    now: datetime
    caller: Hashable


class RequestBatches:
    """Posts batches of one organization each, and waits for no other organization.

    A batch alone is posted at once. Those that arrive while the organization's account is locked
    share the next statement: they would wait for the lock one after the other, each with a commit
    of its own. Batches with a key in common are posted one after the other.

    `caller` returns whose a batch is; a connection is acquired while `acting_for` the callers of
    the batches that it is for.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        caller: Callable[[], Hashable] = lambda: None,
        acting_for: Callable[[Sequence[Any]], AbstractContextManager[None]] = lambda _callers: (
            nullcontext()
        ),
    ) -> None:
        self._connections = connections
        self._caller = caller
        self._acting_for = acting_for
        self._context = copy_context()
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
                context=self._context,
            )
        batch = _Batch(postings, now, self._caller())
        return await self._organizations[organization_id].submit(batch)

    async def close(self) -> None:
        """Wait for the batches in progress."""
        for commits in self._organizations.values():
            await commits.drain()

    async def _flush(self, batches: Sequence[_Batch]) -> Sequence[Results | Exception]:
        outcomes: dict[int, Results | Exception] = {}
        for places in _without_common_keys([batch.postings for batch in batches]):
            posted = await self._post_together([batches[place] for place in places])
            outcomes.update(zip(places, posted, strict=True))
        return [outcomes[place] for place in range(len(batches))]

    async def _post_together(self, batches: Sequence[_Batch]) -> Sequence[Results | Exception]:
        """Post in one statement; where one batch failed it, or all took too long, each alone."""
        try:
            return await self._post(batches)
        except (asyncpg.PostgresError, *UNAVAILABLE, UnavailableError) as error:
            is_away = isinstance(error, (*UNAVAILABLE, UnavailableError))
            if len(batches) == 1 or (is_away and not isinstance(error, asyncpg.QueryCanceledError)):
                return [error] * len(batches)
        return [outcome for batch in batches for outcome in await self._post_together([batch])]

    async def _post(self, batches: Sequence[_Batch]) -> list[Results]:
        postings = [posting for batch in batches for posting in batch.postings]
        now = max(batch.now for batch in batches)
        # One statement is a transaction of its own.
        with self._acting_for([batch.caller for batch in batches]):
            async with self._connections.acquire() as connection:
                results = iter(await service.post(connection, postings, now=now))
        return [[next(results) for _ in batch.postings] for batch in batches]


def _without_common_keys(batches: Sequence[Sequence[Posting]]) -> list[list[int]]:
    """Divide batches into statements, as their places, in which no key is of two batches.

    A key that occurs twice in a statement has all of its postings decided one by one.
    """
    statements: list[list[int]] = []
    keys_of_statement: list[set[str]] = []
    for place, postings in enumerate(batches):
        keys = {posting.key for posting in postings}
        # After every statement that has one of its keys.
        after = max((n + 1 for n, used in enumerate(keys_of_statement) if used & keys), default=0)
        if after == len(statements):
            statements.append([])
            keys_of_statement.append(set())
        statements[after].append(place)
        keys_of_statement[after] |= keys
    return statements
