"""The SQL of recharge attempts, their links and the alerts that they wait for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.db.queries import beside
from shared.errors import LeaseLostError
from shared.recharge.model import (
    ArmedAttempt,
    Attempt,
    AttemptState,
    ChargingAttempt,
    Lease,
    Trigger,
)
from shared.recharge.rules import ChargeDecision
from shared.recharge.transitions import Transition

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)
# The due attempts that are read for each lease. A cluster takes no lock while it orders them.
CANDIDATES_OF_LEASE = 8


async def wake(connection: Connection, payment_intent_ids: Sequence[str]) -> None:
    """Make the live attempts of these payments due now."""
    if await connection.fetch(QUERIES.wake, list(payment_intent_ids)):
        await notify_workers(connection)


async def notify_workers(connection: Connection) -> None:
    """Wake the workers that charge, once the caller's transaction commits."""
    await connection.execute(QUERIES.notify_workers)


async def claim(
    connection: Connection, *, rows_max: int, token: UUID, lease: timedelta
) -> list[Lease[Attempt]]:
    """Lease due attempts under one token, each by a statement of its organization.

    In the caller's transaction. Attempts that are locked or were taken meanwhile are skipped, and
    the next ones leased in their place.
    """
    due = await connection.fetch(QUERIES.due, CANDIDATES_OF_LEASE * rows_max)
    leases: list[Lease[Attempt]] = []
    while due and len(leases) < rows_max:
        count = rows_max - len(leases)
        rows = await connection.fetchmany(
            QUERIES.claim,
            [(row["organization_id"], row["id"], token, lease) for row in due[:count]],
        )
        leases += [Lease(_attempt(row), token) for row in rows]
        due = due[count:]
    return leases


async def take(
    connection: Connection,
    organization_id: UUID,
    attempt_id: UUID,
    token: UUID,
    lease: timedelta,
) -> Lease[Attempt] | None:
    """Lease one live attempt; None: it has ended, or is leased by a worker."""
    row = await connection.fetchrow(QUERIES.take, organization_id, attempt_id, token, lease)
    return Lease(_attempt(row), token) if row else None


async def live(connection: Connection, organization_id: UUID) -> Attempt | None:
    """Return the live attempt of an organization, if there is one."""
    row = await connection.fetchrow(QUERIES.live, organization_id)
    return _attempt(row) if row else None


async def renew(connection: Connection, lease: Lease[Attempt], duration: timedelta) -> bool:
    """Renew a lease; False: it was lost, or the attempt has ended."""
    try:
        await _fenced(connection, QUERIES.renew, lease, duration)
    except LeaseLostError:
        return False
    return True


async def begin(
    connection: Connection,
    lease: Lease[ArmedAttempt],
    decision: ChargeDecision,
    *,
    credits_per_unit: Decimal,
    now: datetime,
) -> Lease[ChargingAttempt]:
    """Store the amount that is about to be charged, and its rate."""
    card = decision.card
    row = await _fenced(
        connection, QUERIES.begin, lease, decision.credits, decision.amount_minor,
        decision.currency, card.customer_id, card.id, card.type, now, card.stripe_account,
        credits_per_unit,
    )  # fmt: skip
    return Lease(charging_attempt(row), lease.token)


async def store_intent(
    connection: Connection, lease: Lease[ChargingAttempt], payment_intent_id: str
) -> None:
    """Store the PaymentIntent, unless one is stored."""
    await _fenced(connection, QUERIES.store_intent, lease, payment_intent_id)


async def store_decline(
    connection: Connection, lease: Lease[ChargingAttempt], decline: Transition
) -> None:
    """Store the reason of a decline before its PaymentIntent is canceled."""
    await _fenced(
        connection, QUERIES.store_decline, lease,
        decline.reason, decline.decline_code, decline.network_advice,
    )  # fmt: skip


async def transition(
    connection: Connection, lease: Lease[Attempt], to: Transition, *, now: datetime
) -> None:
    """Move an attempt to a state and release its lease.

    A wait counts by PostgreSQL's clock: a worker's may be wrong.
    """
    link = to.link
    moment = await connection.fetchval(QUERIES.moment)
    await _fenced(
        connection, QUERIES.transition, lease, to.state, to.reason, to.detail, to.decline_code,
        to.network_advice, to.blocked_by, int(to.new_create_key),
        None if to.wait is None else moment + to.wait,
        link.sha256 if link else None, link.expires_at if link else None,
        now if to.is_final else None, moment,
    )  # fmt: skip


async def arm_low(connection: Connection, organizations: Sequence[UUID]) -> None:
    """Arm the attempts of these organizations that were missed."""
    if await connection.fetch(QUERIES.arm_low, organizations):
        await notify_workers(connection)


async def waiting(connection: Connection, organization_id: UUID) -> asyncpg.Record | None:
    """Return the attempt that waits for its customer, if any."""
    return await connection.fetchrow(QUERIES.waiting, organization_id)


async def attempts(
    connection: Connection,
    organization_id: UUID,
    *,
    rows_max: int,
    after: tuple[datetime, UUID] | None = None,
) -> list[asyncpg.Record]:
    """Read a page of an organization's attempts, newest first, after one of them."""
    moment, attempt_id = after or (None, None)
    return await connection.fetch(QUERIES.attempts, organization_id, rows_max, moment, attempt_id)


async def waiting_attempts(
    connection: Connection, organization_id: UUID, now: datetime
) -> list[asyncpg.Record]:
    """Read the attempts that wait for their customer, and can still be paid."""
    return await connection.fetch(QUERIES.waiting_attempts, organization_id, now)


async def find_attempt(
    connection: Connection, organization_id: UUID, attempt_id: UUID
) -> asyncpg.Record | None:
    """Read an attempt."""
    return await connection.fetchrow(QUERIES.find_attempt, organization_id, attempt_id)


async def attempt_by_id(connection: Connection, attempt_id: UUID) -> asyncpg.Record | None:
    """Return an attempt of any organization."""
    return await connection.fetchrow(QUERIES.attempt_by_id, attempt_id)


async def is_recharge(
    connection: Connection, organization_id: UUID, payment_intent_id: str
) -> bool:
    """Return whether auto-recharge created this payment, not a top-up."""
    is_one: bool = await connection.fetchval(
        QUERIES.is_recharge, organization_id, payment_intent_id
    )
    return is_one


async def wait_for_usage(connection: Connection, organization_id: UUID) -> None:
    """Arm nothing before the next usage."""
    await connection.execute(QUERIES.wait_for_usage, organization_id)


async def forget_customer(connection: Connection, organization_id: UUID, customer_id: str) -> None:
    """Unbind a Stripe customer; locks the organization, which comes before its account."""
    await connection.execute(QUERIES.forget_customer, organization_id, customer_id)


async def detach_methods(
    connection: Connection,
    organization_id: UUID,
    now: datetime,
    *,
    customer_id: str | None = None,
    payment_method_id: str | None = None,
) -> None:
    """Detach a payment method, or all those of a customer."""
    await connection.execute(
        QUERIES.detach_methods, organization_id, customer_id, payment_method_id, now
    )


async def alert(connection: Connection, cause: str, detail: str, now: datetime) -> bool:
    """Store an alert; return whether it is new."""
    began: bool = await connection.fetchval(QUERIES.alert, cause, detail, now)
    return began


async def alerts(connection: Connection) -> list[asyncpg.Record]:
    """Read the alerts, each with the number of its waiting attempts."""
    return await connection.fetch(QUERIES.alerts)


async def end_alerts(connection: Connection) -> list[asyncpg.Record]:
    """End the alerts without waiting attempts, and return them."""
    standing = [row["cause"] for row in await connection.fetch(QUERIES.lock_alerts)]
    return await connection.fetch(QUERIES.end_alerts, standing) if standing else []


async def has_method(connection: Connection, organization_id: UUID) -> bool:
    """Return whether there is a payment method that could be charged."""
    exists: bool = await connection.fetchval(QUERIES.has_method, organization_id)
    return exists


async def has_undescribed_method(connection: Connection, organization_id: UUID) -> bool:
    """Return whether a payment method can be charged once its details are read."""
    exists: bool = await connection.fetchval(QUERIES.has_undescribed_method, organization_id)
    return exists


async def renew_link(
    connection: Connection, organization_id: UUID, attempt_id: UUID, link_sha256: bytes
) -> datetime | None:
    """Replace the link of a page; return when the new one expires."""
    row = await connection.fetchrow(QUERIES.renew_link, organization_id, attempt_id, link_sha256)
    return row["link_expires_at"] if row else None


async def by_link(connection: Connection, link_sha256: bytes) -> dict[str, Any] | None:
    """Return the attempt of a link, with the last change of the rule since it was armed."""
    row = await connection.fetchrow(QUERIES.by_link, link_sha256)
    if row is None:
        return None
    changed_at = await connection.fetchval(
        QUERIES.rule_changed_at, row["organization_id"], row["created_at"]
    )
    return {**row, "rule_changed_at": changed_at}


async def _fenced(
    connection: Connection, query: str, lease: Lease[Attempt], *values: object
) -> asyncpg.Record:
    """Run a statement that is fenced by the lease; raise LeaseLostError if no row matches."""
    attempt = lease.attempt
    row = await connection.fetchrow(
        query, attempt.organization_id, attempt.id, lease.token, *values
    )
    if row is None:
        raise LeaseLostError
    return row


def _attempt(row: asyncpg.Record) -> Attempt:
    """Read the row of a live attempt."""
    if AttemptState(row["state"]) is not AttemptState.ARMED:
        return charging_attempt(row)
    fields = {name: row[name] for name in _ARMED_FIELDS}
    return ArmedAttempt(**fields | {"trigger": Trigger(row["trigger"])})


def charging_attempt(row: asyncpg.Record) -> ChargingAttempt:
    """Read the row of a live attempt that is not in `armed`."""
    fields = {name: row[name] for name in _CHARGING_FIELDS}
    enums = {"state": AttemptState(row["state"]), "trigger": Trigger(row["trigger"])}
    return ChargingAttempt(**fields | enums)


_ARMED_FIELDS = tuple(field.name for field in dataclasses.fields(ArmedAttempt))


_CHARGING_FIELDS = tuple(field.name for field in dataclasses.fields(ChargingAttempt))
