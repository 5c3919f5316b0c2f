"""The loop that compares Stripe with the ledger: every hour, and on request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from shared.config import Settings
from shared.db.pool import create_pool
from shared.errors import ConflictError
from shared.ids import new_id
from shared.reconciliation import schedule
from shared.reconciliation.context import CANDIDATES_AT_ONCE_MAX, open_tools
from shared.reconciliation.model import RunSummary
from shared.reconciliation.run import Reconciliation, only_run
from worker.clock import repeat

if TYPE_CHECKING:
    from shared.db.pool import Pool

log = structlog.get_logger()

INTERVAL_SECONDS = 5.0


class Reconciler:
    """Looks every few seconds for a run that is due, and does it.

    One process runs at a time. If it dies, another worker continues its run from the last page.
    """

    def __init__(
        self,
        pool: Pool,
        settings: Settings,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        make_id: Callable[[], UUID] = new_id,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._interval_seconds = interval_seconds
        self._make_id = make_id
        self._now = now

    async def run(self, stop: asyncio.Event) -> None:
        """Reconcile until `stop` is set, which also ends a run under way: it continues later."""
        await repeat(
            "reconciler",
            self.run_once,
            stop,
            interval_seconds=self._interval_seconds,
            interruptible=True,
        )

    async def run_once(self) -> None:
        """Do the run that has been due longest, if any."""
        async with self._pool.acquire() as connection:
            due = await schedule.is_due(
                connection, self._settings.reconcile, self._make_id(), self._now()
            )
        if not due:
            return
        try:
            async with only_run(self._settings.direct_database_url):
                await self._reconcile()
        except ConflictError as error:
            log.info("reconciliation.waits", reason=error.detail)

    async def _reconcile(self) -> None:
        settings = self._settings
        async with create_pool(
            settings.direct_database_url,
            size=CANDIDATES_AT_ONCE_MAX + 1,
            application_name="prepaid-reconcile",
        ) as pool:
            async with pool.acquire() as connection, connection.transaction():
                run = await schedule.take(connection, settings.reconcile, self._now())
            if run is None:
                return
            log.info("reconciliation.started", run_id=str(run.id), mode=run.mode, since=run.since)
            async with open_tools(
                pool, settings, run.mode, per_second=settings.reconcile.rate
            ) as tools:
                _report(await Reconciliation(tools).run(run))


def _report(summary: RunSummary) -> None:
    run = summary.run
    write = log.warning if summary.drift or run.problems else log.info
    write(
        "reconciliation.finished",
        run_id=str(run.id),
        state=run.state,
        mode=run.mode,
        checked=run.checked,
        drift=summary.drift,
        repaired=summary.repaired,
        problems=len(run.problems),
        **{kind: summary.count(kind) for kind in summary.findings},
    )
