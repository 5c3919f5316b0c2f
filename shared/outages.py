"""Outages of the servers that a process needs: logged when they begin and when they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import structlog

from shared.db.pool import CONTENTION

log = structlog.get_logger()

TEXT_LENGTH_MAX = 500


class Outage:
    """What one server's absence is to this process: two lines in the log, however long it lasts.

    `failures_min` failures in a row begin it; one success ends it.
    """

    def __init__(
        self,
        server: str,
        *,
        failures_min: int = 1,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._unavailable = f"{server}.unavailable"
        self._available = f"{server}.available"
        self._failures_min = failures_min
        self._monotonic = monotonic
        self._failures = 0
        self._first_failed_at = 0.0

    @property
    def lasts(self) -> bool:
        """Whether the server is away, as far as this process has seen."""
        return self._failures >= self._failures_min

    def failed(self, error: BaseException) -> bool:
        """Note a failure; return whether it says that the server is away.

        One that is about a single statement is left to whoever sent the statement.
        """
        if isinstance(error, CONTENTION):
            return False
        if self._failures == 0:
            self._first_failed_at = self._monotonic()
        self._failures += 1
        if self._failures == self._failures_min:
            log.warning(self._unavailable, error=repr(error)[:TEXT_LENGTH_MAX])
        return True

    def succeeded(self) -> None:
        """Note that the server has answered."""
        if self.lasts:
            seconds = round(self._monotonic() - self._first_failed_at, 1)
            log.warning(self._available, after_seconds=seconds, failures=self._failures)
        self._failures = 0

    async def check(self, probe: Callable[[], Awaitable[object]]) -> None:
        """While it lasts, ask whether the server is back. Whoever saw it fail may not ask again."""
        if not self.lasts:
            return
        try:
            await probe()
        except Exception as error:  # noqa: BLE001 - whatever it is, the server is not back
            self.failed(error)
        else:
            self.succeeded()


# Of this process, as its metrics are. A single request that Stripe does not answer is no outage.
POSTGRES = Outage("postgres")
REDIS = Outage("redis")
STRIPE = Outage("stripe", failures_min=3)

CHECK_SECONDS = 1.0
Probes = Mapping[Outage, Callable[[], Awaitable[object]]]


@asynccontextmanager
async def watching(
    probes: Probes,
    *,
    interval_seconds: float = CHECK_SECONDS,
) -> AsyncIterator[None]:
    """Meanwhile, notice when a server is back; ask nothing of one that is there."""

    async def watch() -> None:
        while True:
            for outage, probe in probes.items():
                await outage.check(probe)
            await asyncio.sleep(interval_seconds)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        # A server that is frozen may hold a cancellation up.
        await asyncio.wait({task}, timeout=CHECK_SECONDS)
