"""prepaid doctor: checks settings, servers, schema, Stripe, workers, invariants and what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypedDict

import asyncpg
import typer
from redis.exceptions import RedisError

from cli.checks import cluster, files, postgres, redis, stripe, work
from cli.checks.model import Caution, Finding, Probe
from cli.environment import load_settings
from cli.output import EXIT_REFUSED, abandon_at_end, emit, printable, write
from shared.config import Settings
from shared.db.pool import UNAVAILABLE
from shared.errors import PrepaidError
from shared.logging import mask

CHECK_SECONDS_MAX = 5.0
PERMISSIONS_SECONDS_MAX = 30.0  # some twenty sequential requests
DETAIL_LENGTH_MAX = 500


class Check(TypedDict):
    """The result of a check.

    `level` is ok, warning or problem; `ok` is False for a problem alone. `fix` is the command or
    the setting that corrects it, where there is one.
    """

    name: str
    ok: bool
    level: str
    detail: str
    fix: str | None


def examine(*, as_json: bool) -> None:
    """Run every check and print each result; exit code 1 if one failed."""
    checks: list[Check] = []

    def report(check: Check) -> None:
        checks.append(check)
        if not as_json:
            write(printable(_line(check)))

    abandon_at_end(_examine(report))
    if as_json:
        document = {"ok": all(c["ok"] for c in checks), "checks": checks}
        emit(document, as_json=True, human=str)
    if not all(check["ok"] for check in checks):
        raise typer.Exit(EXIT_REFUSED)


async def _examine(report: Callable[[Check], None]) -> None:
    try:
        settings = load_settings()
    except PrepaidError as error:
        report(_problem("settings", error.detail))
        return
    mode = "live" if settings.livemode else "test"
    report(_passed("settings", f"{mode} mode"))
    unavailable: set[str] = set()
    for name, server, probe in _CHECKS:
        if server in unavailable:
            report(_problem(name, f"not checked: {server} does not answer"))
            continue
        check, answered = await _check(name, server, probe, settings)
        report(check)
        if not answered:
            unavailable.add(server)


async def _check(name: str, server: str, probe: Probe, settings: Settings) -> tuple[Check, bool]:
    """Return the result, and whether the server answered.

    A check that takes too long is abandoned and not cancelled: a frozen server would delay the
    cancellation too.
    """
    running = asyncio.ensure_future(probe(settings))
    seconds_max = PERMISSIONS_SECONDS_MAX if name == "permissions" else CHECK_SECONDS_MAX
    await asyncio.wait({running}, timeout=seconds_max)
    if not running.done():
        running.add_done_callback(_drop)
        detail = f"{server} does not answer within {seconds_max:g} s: {_FIXES[server]}"
        return _problem(name, detail), False
    try:
        return _passed(name, running.result()), True
    except TimeoutError:
        detail = f"{server} does not answer in time: {_FIXES[server]}"
        return _problem(name, detail), False
    except (*UNAVAILABLE, asyncpg.PostgresError, PrepaidError, RedisError) as error:
        detail = mask(str(error)[:DETAIL_LENGTH_MAX]) or type(error).__name__
        fix = getattr(error, "fix", None)
        return _problem(name, detail, fix), not isinstance(error, OSError)


def _passed(name: str, finding: Finding) -> Check:
    if isinstance(finding, Caution):
        return Check(name=name, ok=True, level="warning", detail=finding.detail, fix=finding.fix)
    return Check(name=name, ok=True, level="ok", detail=finding, fix=None)


def _problem(name: str, detail: str, fix: str | None = None) -> Check:
    return Check(name=name, ok=False, level="problem", detail=detail, fix=fix)


def _drop(left_behind: asyncio.Task[Finding]) -> None:
    """Take the outcome of a check that was left behind, so that asyncio logs none of it."""
    if not left_behind.cancelled():
        left_behind.exception()


def _line(check: Check) -> str:
    line = f"{_LABELS[check['level']]}  {check['name']:15}{check['detail']}"
    return line if check["fix"] is None else f"{line}\n{'':21}fix: {check['fix']}"


_LABELS = {"ok": "ok  ", "warning": "WARN", "problem": "FAIL"}
# In this order, each with its server.
_CHECKS: tuple[tuple[str, str, Probe], ...] = (
    ("postgres", "PostgreSQL", postgres.check_postgres),
    ("schema", "PostgreSQL", postgres.check_schema),
    ("redis", "Redis", redis.check_redis),
    ("files", "This machine", files.check_files),
    ("clock", "PostgreSQL", postgres.check_clock),
    ("pooler", "PostgreSQL", postgres.check_pooler),
    ("cluster", "PostgreSQL", cluster.check_cluster),
    ("currencies", "PostgreSQL", work.check_currencies),
    ("stripe", "Stripe", stripe.check_stripe),
    ("permissions", "Stripe", stripe.check_permissions),
    ("webhook", "Stripe", stripe.check_webhook),
    ("recharges", "PostgreSQL", work.check_recharges),
    ("workers", "PostgreSQL", work.check_workers),
    ("invariants", "PostgreSQL", work.check_invariants),
    ("events", "PostgreSQL", work.check_events),
    ("messages", "PostgreSQL", work.check_messages),
    ("reconciliation", "PostgreSQL", work.check_reconciliation),
)
_FIXES = {
    "PostgreSQL": "check that it runs and is not overloaded, and that DATABASE_URL is right",
    "Redis": "check that it runs, and that REDIS_URL is right",
    "Stripe": "check status.stripe.com, and that this machine reaches STRIPE_API_BASE",
    "This machine": "check its disks",
}
