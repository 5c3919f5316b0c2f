"""A run: every list in order, page by page, each page saved with its findings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from shared.db.pool import UNAVAILABLE, close, connect
from shared.errors import (
    ConflictError,
    PrepaidError,
    RunLostError,
    StripeFailedError,
    StripeForbiddenError,
)
from shared.events.rules import types_with_effects
from shared.payments.permissions import named
from shared.reconciliation import arrivals, objects, on_record, rules, store
from shared.reconciliation.context import Comparing, Tools
from shared.reconciliation.model import Finding, Progress, Run, RunSummary

if TYPE_CHECKING:
    from shared.db.pool import Connection

RETENTION = timedelta(days=90)
LOCK_RENEWED_SECONDS = 2.0

Compare = Callable[[Comparing, Sequence[bytes]], Awaitable[list[Finding]]]
ComparePart = Callable[[Comparing, str | None], Awaitable[on_record.Part]]
OnProgress = Callable[[str, Run], None]


@asynccontextmanager
async def only_run(
    database_url: str, *, renewed_seconds: float = LOCK_RENEWED_SECONDS
) -> AsyncIterator[None]:
    """Hold the lock of reconciliation; raise ConflictError where another process has it.

    The lock ends with its connection, however this process ends. Where the connection is lost
    first, the body is cancelled, and RunLostError raised.
    """
    connection = await connect(database_url, application_name="prepaid-reconcile-lock")
    try:
        transaction = connection.transaction()
        await transaction.start()
        if not await store.lock(connection):
            raise ConflictError(
                "Another reconciliation is running. Wait until it has finished, then retry."
            )
        try:
            async with _renewed(connection, renewed_seconds):
                yield
        finally:
            with suppress(*UNAVAILABLE):
                await transaction.rollback()
    finally:
        await close(connection)


@asynccontextmanager
async def _renewed(connection: Connection, seconds: float) -> AsyncIterator[None]:
    """Renew the lock every few seconds; where that fails, cancel the body: RunLostError."""

    async def renew(limit: asyncio.Timeout) -> None:
        try:
            while True:
                await asyncio.sleep(seconds)
                await store.renew_lock(connection)
        except Exception:
            limit.reschedule(asyncio.get_running_loop().time())
            raise

    limit = asyncio.timeout(None)
    try:
        async with limit:
            renewal = asyncio.create_task(renew(limit))
            try:
                yield
            finally:
                renewal.cancel()
                await asyncio.gather(renewal, return_exceptions=True)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise RunLostError(
            "This reconciliation has lost its lock, since its connection to PostgreSQL ended. It"
            " goes on later from its last page: a worker continues it, or --resume."
        ) from error


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Compares Stripe with the ledger. The caller holds the lock (`only_run`)."""

    tools: Tools
    on_progress: OnProgress = lambda _name, _run: None

    async def run(self, run: Run) -> RunSummary:
        """Compare every list from the place that the run has reached, and end the run.

        A list that Stripe refuses, or does not answer, is a problem of the run; the others go on.
        Raises RunLostError where another process has taken the run over.
        """
        try:
            for step in self._steps(run):
                await step()
        except (*UNAVAILABLE, RunLostError):
            raise  # the run stays as it is saved: it can be continued
        except PrepaidError as error:
            await self._finish(run, error.detail)
            raise
        except Exception as error:
            await self._finish(run, f"{type(error).__name__}: {error}"[:1000])
            raise
        return await self._finish(run)

    def _steps(self, run: Run) -> list[Callable[[], Awaitable[None]]]:
        steps: list[Callable[[], Awaitable[None]]] = []
        created: dict[str, Any] = {"gte": int(run.since.timestamp())}
        if run.until is not None:
            created["lte"] = int(run.until.timestamp())
        since = rules.events_since(run.since, run.requested_at)
        events_created = {**created, "gte": int(since.timestamp())}
        for account in ("", *sorted(self.tools.accounts)):
            for number, types in enumerate(rules.type_lists(types_with_effects()), 1):
                params = {"created": events_created, "types": types}
                comparing = Comparing(self.tools, run, "events", account, str(number))
                steps.append(partial(self._list, comparing, "events", params, arrivals.compare))
            for path, more, compare in _LISTS:
                comparing = Comparing(self.tools, run, path, account)
                params = {"created": created, **more}
                steps.append(partial(self._list, comparing, path, params, compare))
        parts = [
            ("open purchases", on_record.open_purchases),
            ("open disputes", on_record.open_disputes),
            ("credits", on_record.credited),
        ]
        if run.whole:
            parts += [("customers", on_record.customers), ("payment methods", on_record.methods)]
        steps += [
            partial(self._parts, Comparing(self.tools, run, name), compare)
            for name, compare in parts
        ]
        return steps

    async def _list(
        self, comparing: Comparing, path: str, params: dict[str, Any], compare: Compare
    ) -> None:
        """Compare a list of Stripe."""

        async def next_page(after: str | None) -> on_record.Part:
            page = await self.tools.pages.page(path, params, account=comparing.account, after=after)
            findings = await compare(comparing, page.objects)
            return findings, page.last_id if page.has_more else None, len(page.objects)

        await self._each_page(comparing, next_page)

    async def _parts(self, comparing: Comparing, compare: ComparePart) -> None:
        """Compare a list of ours."""
        await self._each_page(comparing, partial(compare, comparing))

    async def _each_page(
        self,
        comparing: Comparing,
        next_page: Callable[[str | None], Awaitable[on_record.Part]],
    ) -> None:
        run, name = comparing.run, _progress_name(comparing)
        progress = run.progress.setdefault(name, Progress())
        while not progress.done:
            findings: list[Finding] = []
            after, checked = None, 0
            try:
                findings, after, checked = await next_page(progress.after)
            except StripeForbiddenError as error:
                comparing.problem(error.detail, permission=named(error.detail))
            except StripeFailedError as error:
                comparing.problem(error.detail)
            run.checked += checked
            progress = Progress(after, progress.checked + checked, done=after is None)
            run.progress[name] = progress
            async with self.tools.pool.acquire() as connection, connection.transaction():
                await store.save_findings(connection, run.id, findings)
                await store.save(connection, run)
            self.on_progress(name, run)

    async def _finish(self, run: Run, detail: str | None = None) -> RunSummary:
        async with self.tools.pool.acquire() as connection, connection.transaction():
            await store.finish(connection, run.id, detail)
            await store.purge(connection, RETENTION)
            ended = await store.find_run(connection, run.id)
            assert ended is not None  # noqa: S101 - only runs that ended long ago are purged
            (summary,) = await store.summaries(connection, [ended])
        return summary


def _progress_name(comparing: Comparing) -> str:
    parts = (comparing.name, comparing.part, comparing.account)
    return " ".join(part for part in parts if part)


_LISTS: tuple[tuple[str, dict[str, Any], Compare], ...] = (
    ("payment_intents", {}, objects.payments),
    ("invoices", {"status": "paid"}, objects.invoices),
    ("refunds", {"expand": ["data.charge"]}, objects.refunds),
    ("disputes", {"expand": ["data.charge"]}, objects.disputes),
)
