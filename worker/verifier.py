"""The loop that verifies new rows of the ledger once a day."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import structlog

from shared.db.pool import close, connect
from shared.ledger import verification
from worker.clock import repeat

log = structlog.get_logger()

INTERVAL_SECONDS = 600.0
STATEMENT_SECONDS_MAX = 600
PROBLEMS_LOGGED_MAX = 20


class Verifier:
    """Checks every ten minutes whether today's verification is still due.

    One worker runs it, on its own connection; if that worker dies, another resumes a quarter of an
    hour later. Problems are logged, and the invariant `ledger` shows them.
    """

    def __init__(self, database_url: str, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._database_url = database_url
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Verify until `stop` is set, which also ends a running verification: it resumes later."""
        await repeat(
            "verifier",
            self.run_once,
            stop,
            interval_seconds=self._interval_seconds,
            interruptible=True,
        )

    async def run_once(self) -> None:
        """Verify the new rows, unless a worker has done so today."""
        connection = await connect(
            self._database_url,
            application_name="prepaid-verifier",
            statement_seconds_max=STATEMENT_SECONDS_MAX,
        )
        try:
            result = await verification.verify_day(connection, datetime.now(UTC).date())
        finally:
            await close(connection)
        if result is not None:
            self._report(result)

    def _report(self, result: verification.Verification) -> None:
        counts: dict[str, Any] = {
            "organizations": result["organizations"],
            "transactions": result["transactions"],
        }
        if result["ok"]:
            log.info("verifier.verified", **counts)
            return
        for problem in result["problems"][:PROBLEMS_LOGGED_MAX]:
            log.error("verifier.problem", **problem)
        log.error("verifier.not_ok", problems=len(result["problems"]), **counts)
