"""The work: rates, recharges, workers, invariants, events, messages and reconciliation."""

from __future__ import annotations

from datetime import datetime
from itertools import starmap
from typing import TYPE_CHECKING

from cli.checks.model import Caution, DoctorError, Finding
from cli.checks.postgres import connected
from shared.config import Settings
from shared.counts import counted
from shared.heartbeats import store as heartbeats
from shared.inbox import store as inbox
from shared.inbox.admin import store as inbox_admin
from shared.inbox.model import EventState
from shared.invariants import store as invariants
from shared.invariants.catalog import BY_NAME
from shared.invariants.model import InvariantResult
from shared.organizations.service import check_rate
from shared.outbound import store as outbound
from shared.outbound.model import MessageState
from shared.recharge import alerts
from shared.reconciliation import store as reconciliation

if TYPE_CHECKING:
    import asyncpg

RECONCILE_AGE_SECONDS_MAX = 172_800  # as in the alert PrepaidNotReconciled


async def check_currencies(settings: Settings) -> Finding:
    """Check that the rate is exact in every currency in use."""
    async with connected(settings) as connection:
        await check_rate(connection, settings.credits_per_unit)
    rate = counted(settings.credits_per_unit, "credit")
    return f"the rate of {rate} a unit is exact in every currency in use"


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
        f"{counted(alert.attempts, 'attempt')} waiting since {since}: Stripe answers {alert.cause}"
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
    """Show the invariants that do not hold, with a row and the remedy, or are not checked."""
    async with connected(settings) as connection:
        results = await invariants.results(connection)
        overdue = await invariants.overdue(connection)
    broken = [result for result in results if not result.ok]
    if broken:
        first = BY_NAME.get(broken[0].name)
        raise DoctorError(
            "; ".join([*map(_broken, broken), *starmap(_overdue, overdue.items())]),
            None if first is None else f"{first.remedy} See docs/runbook.md#{first.anchor}",
        )
    if overdue:
        raise DoctorError(
            "; ".join(starmap(_overdue, overdue.items())),
            "Restart the workers, or read the log line worker.loop_failed of invariant_checker."
            " See docs/runbook.md#a-loop-fails",
        )
    unchecked = sorted(set(BY_NAME) - {result.name for result in results})
    if unchecked:
        return Caution(f"no worker has checked {', '.join(unchecked)} yet", "prepaid worker")
    return f"all {len(results)} hold, by their last check"


def _broken(result: InvariantResult) -> str:
    began = result.failing_since
    since = "" if began is None else f" since {began:%Y-%m-%d %H:%M} UTC"
    example = ", ".join(f"{name} {value}" for name, value in (result.example or {}).items())
    return f"{result.name} does not hold{since}: {example}"


def _overdue(name: str, checked_at: datetime) -> str:
    return f"{name} was last checked at {checked_at:%Y-%m-%d %H:%M} UTC"


async def check_events(settings: Settings) -> Finding:
    """Check that no type is paused; count the events that wait for an operator."""
    async with connected(settings) as connection:
        paused = await inbox_admin.paused_types(connection)
        backlog = await inbox.backlog(connection)
    if paused:
        raise DoctorError(
            "; ".join(map(_paused, paused)) + _see("a-type-is-paused"),
            f"prepaid events list --state retrying --type {paused[0]['event_type']}",
        )
    dead, _ = backlog.get(EventState.DEAD, (0, 0.0))
    quarantined, _ = backlog.get(EventState.QUARANTINED, (0, 0.0))
    also = f"; {quarantined} quarantined" if quarantined else ""
    if dead:
        detail = f"{dead} dead, so that their effect is not in the ledger{also}"
        return Caution(detail + _see("dead-letters"), "prepaid events list --state dead")
    if quarantined:
        detail = f"{quarantined} quarantined, of another mode or account"
        fix = "prepaid events list --state quarantined"
        return Caution(detail + _see("quarantined-events"), fix)
    return "none is dead or quarantined, and no type is paused"


def _paused(row: asyncpg.Record) -> str:
    return (
        f"{row['event_type']} is paused until {row['paused_until']:%H:%M:%S} UTC, after"
        f" {row['failures_in_row']} failures in a row"
    )


async def check_messages(settings: Settings) -> Finding:
    """Count the messages to the operator's app that could not be delivered."""
    async with connected(settings) as connection:
        dead = (await outbound.backlog(connection)).get(MessageState.DEAD, 0)
    if dead:
        detail = f"{dead} dead: your app did not get them"
        return Caution(detail + _see("dead-messages"), "prepaid messages list --state dead")
    return "none is dead"


async def check_reconciliation(settings: Settings) -> Finding:
    """Check that the last comparison with Stripe is recent, and left no difference."""
    async with connected(settings) as connection:
        drift = await reconciliation.drift(connection)
        last = await reconciliation.last_finished(connection)
    differences = [f"{count} {kind}" for kind, count in sorted(drift.items())]
    if last is not None and last["problems"]:
        differences.append(f"{counted(last['problems'], 'list')} at Stripe not compared")
    if differences:
        detail = f"not repaired: {', '.join(differences)}"
        fix = "prepaid reconcile --since 24h"
        raise DoctorError(detail + _see("find-events-that-never-arrived"), fix)
    if last is not None and last["age_seconds"] > RECONCILE_AGE_SECONDS_MAX:
        age = counted(int(last["age_seconds"] // 3600), "hour")
        detail = f"the last one that finished began {age} ago"
        fix = "prepaid reconcile --since 3d"
        return Caution(detail + _see("find-events-that-never-arrived"), fix)
    if last is None:
        return "none has finished yet"
    return "the last one left no difference"


def _see(anchor: str) -> str:
    return f" (docs/runbook.md#{anchor})"
