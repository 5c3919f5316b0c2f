"""The work: rates, recharges that wait, workers and invariants."""

from __future__ import annotations

from cli.checks.model import Caution, DoctorError, Finding
from cli.checks.postgres import connected
from shared.config import Settings
from shared.heartbeats import store as heartbeats
from shared.invariants import store as invariants
from shared.invariants.catalog import BY_NAME
from shared.invariants.model import InvariantResult
from shared.money import plain
from shared.organizations.service import check_rate
from shared.recharge import alerts


async def check_currencies(settings: Settings) -> Finding:
    """Check that the rate is exact in every currency in use."""
    async with connected(settings) as connection:
        await check_rate(connection, settings.credits_per_unit)
    return f"{plain(settings.credits_per_unit)} credits a unit are exact in every currency in use"


async def check_recharges(settings: Settings) -> Finding:
    """Check that no recharge attempt waits for this installation's Stripe key or settings."""
    async with connected(settings) as connection:
        standing = await alerts.current(connection)
    if standing:
        raise DoctorError("; ".join(map(_alert, standing)))
    return "no attempt waits for a fix of this installation's Stripe key or settings"


def _alert(alert: alerts.StripeAlert) -> str:
    since = f"{alert.began_at:%Y-%m-%d %H:%M} UTC"
    return (
        f"{alert.attempts} attempt(s) wait since {since}: Stripe answers {alert.cause}"
        f" ({alert.detail}). {alert.remedy}"
    )


async def check_workers(settings: Settings) -> Finding:
    """Check that a worker runs, and each of its loops."""
    async with connected(settings) as connection:
        health = await heartbeats.health(connection)
    if health.problem is not None:
        raise DoctorError(health.problem, "prepaid worker" if health.workers == 0 else None)
    return f"{health.workers} running; {len(health.loops)} loops sent a heartbeat within 20 s"


async def check_invariants(settings: Settings) -> Finding:
    """Show the invariants whose last check found a violation, with a row and the remedy."""
    async with connected(settings) as connection:
        results = await invariants.results(connection)
    broken = [result for result in results if not result.ok]
    if broken:
        first = BY_NAME.get(broken[0].name)
        raise DoctorError(
            "; ".join(map(_broken, broken)),
            None if first is None else f"{first.remedy} See docs/runbook.md#{first.anchor}",
        )
    unchecked = sorted(set(BY_NAME) - {result.name for result in results})
    if unchecked:
        return Caution(f"no worker has checked {', '.join(unchecked)} yet", "prepaid worker")
    return f"all {len(results)} hold, by their last check"


def _broken(result: InvariantResult) -> str:
    since = "" if result.failing_since is None else f" since {result.failing_since:%Y-%m-%d %H:%M}"
    example = ", ".join(f"{name} {value}" for name, value in (result.example or {}).items())
    return f"{result.name} does not hold{since} UTC: {example}"
