"""What a run compares with and repairs with, and the one way in which a finding is repaired."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.config import Settings
from shared.db.pool import AWAY
from shared.errors import StripeForbiddenError
from shared.events.nodes import NodeBatches
from shared.events.service import Applier
from shared.ids import new_id
from shared.inbox.model import ClaimedEvent
from shared.payments.client import Stripe
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms
from shared.payments.paced_client import paced_client
from shared.payments.pages import StripePages
from shared.payments.payment_intents import PaymentIntentGateway
from shared.reconciliation import store
from shared.reconciliation.application import Application, Effect
from shared.reconciliation.model import Finding, Outcome, Problem, Run, RunMode

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

# Each of these holds a connection for the time of its transaction.
CANDIDATES_AT_ONCE_MAX = 4
# The answers for so many candidates wait for the rate of the client as well: at the lowest rate,
# one request a second, this is enough for 15 requests for each.
LOOKUP_SECONDS_MAX = 60
PROBLEMS_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The database, Stripe, and the handlers of events."""

    pool: Pool
    pages: StripePages
    intents: PaymentIntentGateway
    application: Application
    applier: Applier
    livemode: bool = False
    accounts: frozenset[str] = frozenset()
    make_id: Callable[[], UUID] = new_id
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def tools(pool: Pool, client: Stripe, settings: Settings) -> Tools:
    """Return the tools of an installation; `client` should keep to a rate."""
    terms, lookup = SaleTerms.of(settings), StripeLookup(client, LOOKUP_SECONDS_MAX)
    return Tools(
        pool=pool,
        pages=StripePages(client),
        intents=PaymentIntentGateway(client),
        application=Application(pool, lookup, terms, livemode=settings.livemode),
        applier=Applier(pool, terms, lookup=lookup, nodes=NodeBatches(pool)),
        livemode=settings.livemode,
        accounts=settings.stripe_accounts,
    )


@asynccontextmanager
async def open_tools(
    pool: Pool, settings: Settings, mode: RunMode, *, per_second: float
) -> AsyncIterator[Tools]:
    """Give the tools of a run, with a client that keeps to a rate; it closes at the end.

    Only a repair can change something at Stripe: the client of any other run sends GETs alone.
    """
    async with paced_client(
        settings.stripe_api_key,
        settings.stripe_api_base,
        per_second=per_second,
        read_only=mode is not RunMode.REPAIR,
    ) as client:
        yield tools(pool, client, settings)


@dataclass(frozen=True, slots=True)
class Comparing:
    """A list that a run compares, in one account; `part`: one of several filters of a list."""

    tools: Tools
    run: Run
    name: str
    account: str = ""
    part: str = ""

    @property
    def repairs(self) -> bool:
        """Whether the run repairs what it finds."""
        return self.run.mode is RunMode.REPAIR

    @property
    def unrepaired(self) -> Outcome:
        """The outcome of a finding that could be repaired, where the run does not."""
        previews = self.run.mode is RunMode.PREVIEW
        return Outcome.REPAIRABLE if previews else Outcome.FOUND

    async def apply(
        self, finding: Finding, event: ClaimedEvent, *, always: bool = False
    ) -> Finding | None:
        """Apply, or preview, the event that repairs a finding; None: there is nothing to repair.

        `always`: it is a difference even where nothing is posted. A repair and its finding commit
        together.
        """
        if not self.repairs:
            effect = await self.tools.application.preview(event)
            return _decided(finding, effect, self.unrepaired, always=always)
        repaired: list[Finding] = []

        async def record(connection: Connection, effect: Effect) -> None:
            decided = _decided(finding, effect, Outcome.REPAIRED, always=always)
            if decided is not None:
                repaired.append(decided)
                await store.save_findings(connection, self.run.id, repaired)

        effect = await self.tools.application.commit(event, record)
        if effect.refusal is not None:  # what refuses in the middle has rolled back its record too
            return _decided(finding, effect, Outcome.REFUSED, always=always)
        return repaired[0] if repaired else None

    async def save(self, findings: Sequence[Finding]) -> None:
        """Store findings before the end of their page."""
        async with self.tools.pool.acquire() as connection:
            await store.save_findings(connection, self.run.id, findings)

    async def each(
        self,
        candidates: Iterable[tuple[str, Awaitable[Finding | None]]],
        others: Sequence[Finding] = (),
    ) -> list[Finding]:
        """Await the findings of a page, a few at once; a failure of one is a problem of the run.

        Raises StripeForbiddenError: the key lacks a permission, whichever object it is. What the
        page has found, and its `others`, are stored before. Raises also what asyncpg raises while
        PostgreSQL is away.
        """
        turn = asyncio.Semaphore(CANDIDATES_AT_ONCE_MAX)

        async def one(object_id: str, work: Awaitable[Finding | None]) -> Finding | None:
            async with turn:
                try:
                    return await work
                except (StripeForbiddenError, *AWAY):
                    raise
                except Exception as error:  # noqa: BLE001 - it is noted, and stops no other
                    self.problem(f"{object_id}: {type(error).__name__}: {error}")
                    return None

        found = await asyncio.gather(
            *(one(name, work) for name, work in candidates), return_exceptions=True
        )
        findings = [*others, *(result for result in found if isinstance(result, Finding))]
        for result in found:
            if isinstance(result, StripeForbiddenError):
                await self.save(findings)
            if isinstance(result, BaseException):
                raise result
        return findings

    def problem(self, detail: str, *, permission: str | None = None) -> None:
        """Note what could not be compared."""
        problem = Problem(self.name, detail[:1000], permission, self.account)
        if problem not in self.run.problems and len(self.run.problems) < PROBLEMS_MAX:
            self.run.problems.append(problem)

    def reported(self, findings: Sequence[Finding]) -> list[Finding]:
        """Return findings that nobody but a person can repair."""
        refused = self.run.mode in (RunMode.REPAIR, RunMode.PREVIEW)
        return [replace(f, outcome=Outcome.REFUSED) if refused else f for f in findings]


def _decided(finding: Finding, effect: Effect, outcome: Outcome, *, always: bool) -> Finding | None:
    if effect.refusal is not None:
        detail = f"{finding.detail}: {effect.refusal}"
        return replace(finding, outcome=Outcome.REFUSED, detail=detail[:1000])
    if not effect.is_ours or (effect.credits is None and not always):
        return None
    return replace(
        finding,
        outcome=outcome,
        organization_id=effect.organization_id or finding.organization_id,
        credits=effect.credits,
    )
