"""The SQL of auto-recharge."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.errors import LeaseLostError
from shared.organizations.model import Organization
from shared.recharge.model import (
    ENDED_BY_A_PERSON,
    ArmedAttempt,
    Attempt,
    AttemptState,
    AutoRecharge,
    Card,
    ChargingAttempt,
    Circumstances,
    Lease,
    RechargeState,
    Rule,
    Schedule,
    Spent,
    SuspensionReason,
    TopUps,
    Trigger,
)
from shared.recharge.rules import ChargeAmount, ChargeDecision
from shared.recharge.states import outranked
from shared.recharge.transitions import Transition

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def lock_account(connection: Connection, organization_id: UUID) -> None:
    """Take an organization's account, the first lock of all; the query says why."""
    await connection.execute(QUERIES.lock_account, organization_id)


async def suspend(
    connection: Connection,
    organization_id: UUID,
    reason: SuspensionReason,
    detail: str,
    *,
    until: datetime | None,
    fingerprint: str | None,
) -> bool:
    """Suspend what may charge, or replace a reason of lower rank; return whether it did.

    While auto-recharge is off, a reason that only a person ends is held: False too.
    """
    state = await connection.fetchval(
        QUERIES.suspend, organization_id, reason, detail, until, fingerprint,
        list(outranked(reason)), reason in ENDED_BY_A_PERSON,
    )  # fmt: skip
    return bool(state == RechargeState.SUSPENDED)


async def resume(
    connection: Connection,
    organization_id: UUID,
    reasons: Collection[SuspensionReason],
    *,
    forget_declines: bool = True,
) -> bool:
    """End a suspension for one of these reasons; return whether anything changed."""
    row = await connection.fetchrow(
        QUERIES.resume, organization_id, _stored(reasons), forget_declines
    )
    return row is not None


def _stored(reasons: Collection[SuspensionReason]) -> list[str]:
    old = {_NO_CARD_BEFORE} if SuspensionReason.NO_CARD in reasons else set()
    return [*reasons, *old]


# What a process of the last release writes for `no_card`.
_NO_CARD_BEFORE = "no_payment_method"


async def end_wait(connection: Connection, organization_id: UUID) -> None:
    """End the wait after a decline, and have an armed attempt looked at now."""
    await connection.execute(QUERIES.end_wait, organization_id)


async def suspended_for(
    connection: Connection, organizations: Collection[UUID], reason: SuspensionReason
) -> list[UUID]:
    """Return which of these organizations are suspended for a reason, sorted."""
    rows = await connection.fetch(QUERIES.suspended_for, list(organizations), reason)
    return [row["organization_id"] for row in rows]


async def expire_links_of_other_cards(connection: Connection, organization_id: UUID) -> None:
    """End the link of an attempt that waits for its customer, if another card is charged now."""
    await connection.execute(QUERIES.expire_links_of_other_cards, organization_id)


async def ring(connection: Connection, payment_intent_ids: Sequence[str]) -> None:
    """Have a worker look at the live attempts of these payments now."""
    await connection.execute(QUERIES.ring, list(payment_intent_ids))


async def claim(
    connection: Connection, *, rows_max: int, token: UUID, lease: timedelta
) -> list[Lease[Attempt]]:
    """Take attempts that are due, under leases of one token."""
    rows = await connection.fetch(QUERIES.claim, rows_max, token, lease)
    return [Lease(_attempt(row), token) for row in rows]


async def take(
    connection: Connection,
    organization_id: UUID,
    attempt_id: UUID,
    token: UUID,
    lease: timedelta,
) -> Lease[Attempt] | None:
    """Take one live attempt under a lease; None: it has ended, or a worker has it."""
    row = await connection.fetchrow(QUERIES.take, organization_id, attempt_id, token, lease)
    return Lease(_attempt(row), token) if row else None


async def live(connection: Connection, organization_id: UUID) -> Attempt | None:
    """Return the live attempt of an organization, if there is one."""
    row = await connection.fetchrow(QUERIES.live, organization_id)
    return _attempt(row) if row else None


async def renew(connection: Connection, lease: Lease[Attempt], duration: timedelta) -> bool:
    """Renew a lease; False: it has passed on."""
    try:
        await _fenced(connection, QUERIES.renew, lease, duration)
    except LeaseLostError:
        return False
    return True


async def circumstances(
    connection: Connection, organization_id: UUID, *, month_start: datetime
) -> Circumstances | None:
    """Read them under the account's lock; None where there is no auto-recharge."""
    row = await connection.fetchrow(QUERIES.circumstances, organization_id, month_start)
    if row is None:
        return None
    card = None
    if row["card_id"] is not None:
        card = Card(
            id=row["card_id"],
            customer_id=row["card_customer_id"],
            type=row["card_type"],
            fingerprint=row["card_fingerprint"],
            stripe_account=row["card_account"],
        )
    return Circumstances(
        auto=_auto_recharge(row),
        spendable=row["spendable"],
        overdraft_limit=row["overdraft_limit"],
        currency=row["currency"],
        card=card,
        card_undescribed=row["card_undescribed"],
        spent=Spent(row["month_credits"], row["month_count"]),
    )


async def begin(
    connection: Connection,
    lease: Lease[ArmedAttempt],
    decision: ChargeDecision,
    *,
    credits_per_unit: Decimal,
    now: datetime,
) -> Lease[ChargingAttempt]:
    """Store what is about to be charged, and the rate at which it was decided."""
    card = decision.card
    row = await _fenced(
        connection, QUERIES.begin, lease, decision.credits, decision.amount_minor,
        decision.currency, card.customer_id, card.id, card.type, now, card.stripe_account,
        credits_per_unit,
    )  # fmt: skip
    return Lease(_charging_attempt(row), lease.token)


async def store_intent(
    connection: Connection, lease: Lease[ChargingAttempt], payment_intent_id: str
) -> None:
    """Store the PaymentIntent, the first one alone."""
    await _fenced(connection, QUERIES.store_intent, lease, payment_intent_id)


async def store_decline(
    connection: Connection, lease: Lease[ChargingAttempt], decline: Transition
) -> None:
    """Store why it was declined, before its PaymentIntent is canceled."""
    await _fenced(
        connection, QUERIES.store_decline, lease,
        decline.reason, decline.decline_code, decline.network_advice,
    )  # fmt: skip


async def transition(
    connection: Connection, lease: Lease[Attempt], to: Transition, *, now: datetime
) -> None:
    """Move an attempt to a state and give its lease back.

    A wait counts from PostgreSQL's clock: a worker's may be off.
    """
    link = to.link
    await _fenced(
        connection, QUERIES.transition, lease, to.state, to.reason, to.detail, to.decline_code,
        to.network_advice, to.blocked_by, int(to.new_create_key), to.wait,
        link.sha256 if link else None, link.expires_at if link else None,
        now if to.is_final else None,
    )  # fmt: skip


async def pause(connection: Connection, organization_id: UUID) -> None:
    """Arm nothing while the customer must act."""
    await connection.execute(QUERIES.pause, organization_id)


async def unpause(connection: Connection, organization_id: UUID) -> None:
    """Arm again."""
    await connection.execute(QUERIES.unpause, organization_id)


async def record_success(connection: Connection, organization_id: UUID, now: datetime) -> None:
    """Clear the declines and what the customer was to do; begin the pause."""
    await connection.execute(QUERIES.record_success, organization_id, now)


async def record_decline(
    connection: Connection, organization_id: UUID, declines: int, not_before: datetime | None
) -> None:
    """Count a decline."""
    await connection.execute(QUERIES.record_decline, organization_id, declines, not_before)


async def rules_after(connection: Connection, after: UUID, *, limit: int) -> list[UUID]:
    """Return the organizations after one, in order of their ids, that have a rule."""
    rows = await connection.fetch(QUERIES.rules_after, after, limit)
    return [row["organization_id"] for row in rows]


async def lock_due(
    connection: Connection, now: datetime, looked_at: Sequence[UUID], *, rows_max: int
) -> list[UUID]:
    """Take the accounts for which the clock has something to do, so many of each kind at most.

    Of `looked_at`, those whose balance is low and that have not armed.
    """
    rows = await connection.fetch(QUERIES.lock_due, now, rows_max, looked_at)
    return [row["organization_id"] for row in rows]


async def arm_low(connection: Connection, organizations: Sequence[UUID]) -> None:
    """Arm what should have been armed before."""
    await connection.execute(QUERIES.arm_low, organizations)


async def expire_top_ups(
    connection: Connection, organizations: Sequence[UUID], now: datetime
) -> None:
    """End the links of waiting top-ups where auto-recharge has something to charge."""
    await connection.execute(QUERIES.expire_top_ups, now, organizations)


async def scheduled(
    connection: Connection, organizations: Sequence[UUID], now: datetime
) -> list[tuple[UUID, Schedule, int]]:
    """Return the schedules that are due."""
    rows = await connection.fetch(QUERIES.scheduled, now, organizations)
    return [
        (row["organization_id"], Schedule(row["schedule"]), row["schedule_day"]) for row in rows
    ]


async def due_again(connection: Connection, organization_id: UUID, now: datetime) -> None:
    """Have an organization's schedule, if it has one, run again."""
    await connection.execute(QUERIES.due_again, organization_id, now)


async def arm_scheduled(
    connection: Connection, organization_id: UUID, attempt_id: UUID, now: datetime, after: datetime
) -> None:
    """Arm a scheduled attempt and set the next run."""
    await connection.execute(QUERIES.arm_scheduled, organization_id, attempt_id, now, after)


async def end_suspensions(
    connection: Connection, organizations: Sequence[UUID], now: datetime
) -> None:
    """End the suspensions whose time is over."""
    await connection.execute(QUERIES.end_suspensions, now, organizations)


async def save(
    connection: Connection,
    organization_id: UUID,
    rule: Rule,
    *,
    on: bool,
    next_run_at: datetime | None,
    consented_at: datetime | None,
    consented_by: str | None,
) -> RechargeState:
    """Save a rule; return the state that auto-recharge is in then."""
    return RechargeState(
        await connection.fetchval(
            QUERIES.save, organization_id, rule.threshold, rule.amount, rule.target, rule.schedule,
            rule.schedule_day, rule.schedule_amount, next_run_at, rule.monthly_cap,
            rule.monthly_count_cap, rule.pause_seconds_min, consented_at, consented_by, on,
            list(ENDED_BY_A_PERSON),
        )
    )  # fmt: skip


async def turn_off(connection: Connection, organization_id: UUID) -> bool:
    """Turn auto-recharge off; a suspension that only a person ends is kept."""
    row = await connection.fetchrow(QUERIES.turn_off, organization_id, list(ENDED_BY_A_PERSON))
    return row is not None


async def follow(connection: Connection, organization_id: UUID) -> None:
    """Have the account follow the rule that is saved: what arms an attempt, and what is low."""
    await connection.execute(QUERIES.follow, organization_id)


async def set_low_balance_threshold(
    connection: Connection, organization_id: UUID, threshold: Decimal | None
) -> None:
    """Set the balance below which `credits.low` is announced; None: the rule's threshold."""
    await connection.execute(QUERIES.set_low_balance_threshold, organization_id, threshold)
    await follow(connection, organization_id)


async def settings(
    connection: Connection,
    *,
    organization_id: UUID | None = None,
    state: RechargeState | None = None,
    rows_max: int = 1000,
) -> list[AutoRecharge]:
    """Read auto-recharges."""
    rows = await connection.fetch(QUERIES.settings, organization_id, state, rows_max)
    return [_auto_recharge(row) for row in rows]


async def overview(
    connection: Connection,
    *,
    organization_id: UUID | None,
    state: RechargeState | None,
    month_start: datetime,
    rows_max: int,
) -> list[asyncpg.Record]:
    """Read auto-recharges as a person wants to see them, the last changed first."""
    return await connection.fetch(QUERIES.overview, organization_id, state, month_start, rows_max)


async def waiting(connection: Connection, organization_id: UUID) -> asyncpg.Record | None:
    """Return the attempt that waits for its customer, if one does."""
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


async def top_ups_of_organization(
    connection: Connection, organization: Organization, since: datetime
) -> TopUps:
    """Return the top-ups of an organization that were charged since, or may still be."""
    row = await connection.fetchrow(QUERIES.top_ups_of_organization, organization.id, since)
    assert row is not None  # noqa: S101 - it counts, so there is a row
    return TopUps(organization.currency, row["count"], row["amount_minor"])


async def top_ups_of_key(
    connection: Connection, key_id: UUID, organization_id: UUID, since: datetime
) -> list[TopUps]:
    """Return the top-ups of a key by currency, but for one of this organization that waits."""
    rows = await connection.fetch(QUERIES.top_ups_of_key, key_id, organization_id, since)
    return [TopUps(row["currency"], row["count"], row["amount_minor"]) for row in rows]


async def lock_key(connection: Connection, key_id: UUID) -> None:
    """Lock an API key until the end of the transaction; the account is locked before it."""
    await connection.execute(QUERIES.lock_key, key_id)


async def attempt_by_id(connection: Connection, attempt_id: UUID) -> asyncpg.Record | None:
    """Find an attempt of any organization."""
    return await connection.fetchrow(QUERIES.attempt_by_id, attempt_id)


async def recent_declines(connection: Connection, organization_id: UUID, since: datetime) -> int:
    """Count how often top-ups were declined that charged what would be charged now."""
    count: int = await connection.fetchval(QUERIES.recent_declines, organization_id, since)
    return count


async def give_way(connection: Connection, organization_id: UUID, now: datetime) -> UUID | None:
    """End an attempt of which Stripe was asked nothing and that nobody carries; return its id."""
    attempt_id: UUID | None = await connection.fetchval(QUERIES.give_way, organization_id, now)
    return attempt_id


async def begin_top_up(  # noqa: PLR0913 - all that is known of it from the start
    connection: Connection,
    organization_id: UUID,
    attempt_id: UUID,
    price: ChargeAmount,
    *,
    currency: str,
    credits_per_unit: Decimal,
    now: datetime,
    token: UUID,
    lease: timedelta,
    key_id: UUID | None = None,
) -> Lease[ChargingAttempt] | None:
    """Store a charge that its customer requests; None: no card, or another attempt is live."""
    row = await connection.fetchrow(
        QUERIES.begin_top_up, organization_id, attempt_id, price.credits, price.amount_minor,
        currency, now, token, lease, credits_per_unit, key_id,
    )  # fmt: skip
    return Lease(_charging_attempt(row), token) if row else None


async def is_recharge(
    connection: Connection, organization_id: UUID, payment_intent_id: str
) -> bool:
    """Return whether auto-recharge made this payment: not its customer, in a top-up."""
    found: bool = await connection.fetchval(QUERIES.is_recharge, organization_id, payment_intent_id)
    return found


async def wait_for_usage(connection: Connection, organization_id: UUID) -> None:
    """Arm nothing before the next usage."""
    await connection.execute(QUERIES.wait_for_usage, organization_id)


async def forget_customer(connection: Connection, organization_id: UUID, customer_id: str) -> None:
    """Forget a Stripe customer; take the organization, which is locked before its account."""
    await connection.execute(QUERIES.forget_customer, organization_id, customer_id)


async def detach_methods(
    connection: Connection,
    organization_id: UUID,
    now: datetime,
    *,
    customer_id: str | None = None,
    payment_method_id: str | None = None,
) -> None:
    """Detach a payment method, or all of a customer."""
    await connection.execute(
        QUERIES.detach_methods, organization_id, customer_id, payment_method_id, now
    )


async def alert(connection: Connection, cause: str, detail: str, now: datetime) -> bool:
    """Remember why Stripe refuses this installation; return whether that is new."""
    began: bool = await connection.fetchval(QUERIES.alert, cause, detail, now)
    return began


async def alerts(connection: Connection) -> list[asyncpg.Record]:
    """Read why Stripe refuses this installation, and how many attempts wait for that."""
    return await connection.fetch(QUERIES.alerts)


async def end_alerts(connection: Connection) -> list[asyncpg.Record]:
    """End the alerts that no attempt waits for any more, and return them."""
    standing = [row["cause"] for row in await connection.fetch(QUERIES.lock_alerts)]
    return await connection.fetch(QUERIES.end_alerts, standing) if standing else []


async def has_method(connection: Connection, organization_id: UUID) -> bool:
    """Return whether there is a payment method that could be charged."""
    found: bool = await connection.fetchval(QUERIES.has_method, organization_id)
    return found


async def has_undescribed_method(connection: Connection, organization_id: UUID) -> bool:
    """Return whether a payment method can be charged once Stripe has said what it is."""
    found: bool = await connection.fetchval(QUERIES.has_undescribed_method, organization_id)
    return found


async def billing(connection: Connection, organization_id: UUID) -> asyncpg.Record:
    """Read what billing settings show beside the balance."""
    row = await connection.fetchrow(QUERIES.billing, organization_id)
    assert row is not None  # noqa: S101 - an organization is never deleted
    return row


async def lock(connection: Connection, organization_id: UUID) -> None:
    """Keep other changes of an organization's settings waiting until this transaction ends."""
    await connection.execute(QUERIES.lock, organization_id)


async def limit_overdraft(connection: Connection, organization_id: UUID, limit: Decimal) -> None:
    """Say how far an organization may go below zero."""
    await connection.execute(QUERIES.limit_overdraft, organization_id, limit)


async def dismiss_reminder(connection: Connection, organization_id: UUID, now: datetime) -> bool:
    """Remember that nobody wants the reminder; False: there is no auto-recharge."""
    return await connection.fetchrow(QUERIES.dismiss_reminder, organization_id, now) is not None


async def renew_link(
    connection: Connection, organization_id: UUID, attempt_id: UUID, link_sha256: bytes
) -> datetime | None:
    """Give a page a new address; return when it expires."""
    row = await connection.fetchrow(QUERIES.renew_link, organization_id, attempt_id, link_sha256)
    return row["link_expires_at"] if row else None


async def by_link(connection: Connection, link_sha256: bytes) -> asyncpg.Record | None:
    """Find the attempt whose page this is."""
    return await connection.fetchrow(QUERIES.by_link, link_sha256)


async def _fenced(
    connection: Connection, query: str, lease: Lease[Attempt], *values: object
) -> asyncpg.Record:
    """Run a statement that names the lease; raise LeaseLostError where it found no row."""
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
        return _charging_attempt(row)
    fields = {name: row[name] for name in _ARMED_FIELDS}
    return ArmedAttempt(**fields | {"trigger": Trigger(row["trigger"])})


def _charging_attempt(row: asyncpg.Record) -> ChargingAttempt:
    fields = {name: row[name] for name in _CHARGING_FIELDS}
    enums = {"state": AttemptState(row["state"]), "trigger": Trigger(row["trigger"])}
    return ChargingAttempt(**fields | enums)


_ARMED_FIELDS = tuple(field.name for field in dataclasses.fields(ArmedAttempt))
_CHARGING_FIELDS = tuple(field.name for field in dataclasses.fields(ChargingAttempt))


def _reason(stored: str | None) -> SuspensionReason | None:
    if stored == _NO_CARD_BEFORE:
        return SuspensionReason.NO_CARD
    return SuspensionReason(stored) if stored else None


def _auto_recharge(row: asyncpg.Record) -> AutoRecharge:
    rule = Rule(
        threshold=row["threshold"],
        amount=row["amount"],
        target=row["target"],
        schedule=Schedule(row["schedule"]) if row["schedule"] else None,
        schedule_day=row["schedule_day"],
        schedule_amount=row["schedule_amount"],
        monthly_cap=row["monthly_cap"],
        monthly_count_cap=row["monthly_count_cap"],
        pause_seconds_min=row["pause_seconds_min"],
    )
    return AutoRecharge(
        organization_id=row["organization_id"],
        state=RechargeState(row["state"]),
        rule=rule,
        reason=_reason(row["reason"]),
        detail=row["detail"],
        suspended_until=row["suspended_until"],
        next_run_at=row["next_run_at"],
        declines_in_row=row["declines_in_row"],
        not_before=row["not_before"],
        declined_fingerprint=row["declined_fingerprint"],
        consented_at=row["consented_at"],
        consented_by=row["consented_by"],
    )


async def has_open_inquiry(connection: Connection, organization_id: UUID) -> bool:
    """Return whether a payment of an organization is under inquiry."""
    found: bool = await connection.fetchval(QUERIES.has_open_inquiry, organization_id)
    return found
