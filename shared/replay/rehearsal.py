"""What lets the Applier work inside one transaction that is rolled back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared.errors import StripeFailedError
from shared.events.model import ProcessedEvent
from shared.inbox.model import ClaimedEvent
from shared.payments.lookup import Facts, Question

if TYPE_CHECKING:
    from shared.db.pool import AcquiredConnection, Connection

NOT_ASKED = "Stripe is asked between two rehearsals"


@dataclass(frozen=True, slots=True)
class OneConnection:
    """A source of one connection, for one caller at a time.

    Its transactions are savepoints of the one that is open.
    """

    connection: Connection
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def acquire(self) -> AcquiredConnection:
        """Acquire the connection for the duration of a block."""
        return self._acquire()

    @asynccontextmanager
    async def _acquire(self) -> AsyncIterator[Any]:
        async with self.turn:
            yield self.connection


@dataclass(frozen=True, slots=True)
class CollectedLookup:
    """Answers from memory, and collects the questions that have no answer yet.

    Nothing is asked here: a transaction is open.
    """

    known: dict[Question, Facts | Exception]
    missing: set[Question] = field(default_factory=set)

    async def answers(self, questions: Collection[Question]) -> dict[Question, Facts | Exception]:
        """Return what is known; what is not is in `missing`, and fails for now."""
        self.missing.update(question for question in questions if question not in self.known)
        return {q: self.known.get(q, StripeFailedError(NOT_ASKED)) for q in questions}


def no_report(
    _events: Sequence[ClaimedEvent], _processed: Sequence[ProcessedEvent], _now: datetime
) -> None:
    """Neither log nor count: a rehearsal applies nothing."""
