"""Outages of the servers that a process needs, logged when they begin and when they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import asyncpg
import structlog

from shared import certificates
from shared.db.pool import CONTENTION

log = structlog.get_logger()

TEXT_LENGTH_MAX = 500
# A full disk refuses some writes and answers probes: it is over when none was refused for so long.
DISK_SECONDS = 60.0
# In an error of one statement alone: its temporary files, or the memory that its processes share.
_TEMPORARY = ("pgsql_tmp", "shared memory segment")


def concerns_one_statement(error: BaseException) -> bool:
    """Return whether an error says nothing about other statements: contention, temporary files."""
    if isinstance(error, asyncpg.DiskFullError):
        return any(part in str(error) for part in _TEMPORARY)
    return isinstance(error, CONTENTION)


class Outage:
    """Tracks whether one server is available to this process; an outage is two log lines.

    `failures_min` consecutive failures begin an outage; one success ends it. `fix_of` returns what
    the first line says of a setting that must be corrected.
    """

    def __init__(
        self,
        server: str,
        *,
        failures_min: int = 1,
        monotonic: Callable[[], float] = time.monotonic,
        fix_of: Callable[[BaseException], str | None] = lambda _error: None,
    ) -> None:
        self._unavailable = f"{server}.unavailable"
        self._available = f"{server}.available"
        self._failures_min = failures_min
        self._monotonic = monotonic
        self._fix_of = fix_of
        self._failures = 0
        self._first_failed_at = 0.0
        self._over_at = float("-inf")

    @property
    def is_active(self) -> bool:
        """Whether the server is unavailable, as far as this process knows."""
        return self._failures >= self._failures_min

    def failed(self, error: BaseException) -> bool:
        """Record a failure; return whether it means that the server is unavailable.

        What concerns one statement, such as a lock or its time limit, does not.
        """
        if concerns_one_statement(error):
            return False
        if isinstance(error, asyncpg.DiskFullError):
            self._over_at = self._monotonic() + DISK_SECONDS
        if self._failures == 0:
            self._first_failed_at = self._monotonic()
        self._failures += 1
        if self._failures == self._failures_min:
            fix = self._fix_of(error)
            advice = {} if fix is None else {"fix": fix}
            log.warning(self._unavailable, error=repr(error)[:TEXT_LENGTH_MAX], **advice)
        return True

    def succeeded(self) -> None:
        """Record that the server has answered."""
        if self.is_active:
            seconds = round(self._monotonic() - self._first_failed_at, 1)
            log.warning(self._available, after_seconds=seconds, failures=self._failures)
        self._failures = 0

    async def check(self, probe: Callable[[], Awaitable[object]]) -> None:
        """During an outage, probe whether the server is back, in case nothing else uses it."""
        if not self.is_active or self._monotonic() < self._over_at:
            return
        try:
            await probe()
        except Exception as error:  # noqa: BLE001 - any failure means that the server is not back
            self.failed(error)
        else:
            self.succeeded()


# Per process, like metrics. A single request that Stripe does not answer is no outage.
POSTGRES = Outage("postgres")
REDIS = Outage("redis", fix_of=certificates.fix_of)
STRIPE = Outage("stripe", failures_min=3)

CHECK_SECONDS = 1.0
Probes = Mapping[Outage, Callable[[], Awaitable[object]]]


@asynccontextmanager
async def watching(
    probes: Probes,
    *,
    interval_seconds: float = CHECK_SECONDS,
) -> AsyncIterator[None]:
    """Probe unavailable servers during the block; available ones are not probed."""

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
        # A frozen server may block the cancellation.
        await asyncio.wait({task}, timeout=CHECK_SECONDS)
