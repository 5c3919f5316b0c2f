"""A top-up: a present customer buys credits with the card on file, in one charge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import structlog

from shared import metrics
from shared.access import service as audit
from shared.access.model import Actor
from shared.errors import (
    ConflictError,
    MethodDeclinedError,
    MethodUndescribedError,
    NoPaymentMethodError,
    NotFoundError,
    PrepaidError,
)
from shared.organizations import service as organizations
from shared.organizations.model import Organization
from shared.recharge import cancellation, service, store
from shared.recharge.attempts import store as attempt_store
from shared.recharge.flow import Charger
from shared.recharge.model import AttemptState, ChargingAttempt, Lease, Trigger
from shared.recharge.recovery import new_link
from shared.recharge.rules import TOP_UP_DECLINES_MAX, TOP_UP_DECLINES_WITHIN, ChargeAmount
from shared.recharge.top_ups import daily
from shared.recharge.top_ups import store as top_up_store
from shared.recharge.top_ups.daily import DailyLimits

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

log = structlog.get_logger()

RETRY_AFTER_SECONDS = 2
NO_LIMITS = DailyLimits()


@dataclass(frozen=True, slots=True)
class ToppedUp:
    """The stored attempt, and the link to the page if the customer must authenticate."""

    attempt: asyncpg.Record
    url: str | None


async def top_up(
    charger: Charger,
    organization: Organization,
    price: ChargeAmount,
    *,
    attempt_id: UUID,
    actor: Actor | str,
    limits: DailyLimits = NO_LIMITS,
) -> ToppedUp:
    """Charge the card on file this price, and return the attempt.

    The attempt has the guarantees of auto-recharge: it is stored before the first request to
    Stripe, captures at most once, and is finished by a worker if this process dies. A repeated
    `attempt_id` charges nothing: the stored attempt is returned, with a fresh link if it waits for
    its customer. An attempt of auto-recharge that is only armed, and not leased, is canceled: it
    may wait for hours after a decline. A top-up that waits for its customer is canceled too, at
    Stripe first. `actor` is recorded in the audit log. Raises NoPaymentMethodError,
    MethodDeclinedError after too many recent declines of the payment method, ConflictError while
    any other attempt is live, or RateLimitError above a daily limit; then nothing has changed.
    """
    key_id = actor.key_id if isinstance(actor, Actor) else None
    await _replace_waiting(charger, organization, attempt_id, price, limits, key_id)
    link = new_link()
    async with charger.pool.acquire() as connection, connection.transaction():
        await store.lock_account(connection, organization.id)
        known = await attempt_store.find_attempt(connection, organization.id, attempt_id)
        if known is None:
            lease = await _begin(
                connection, charger, organization, price, attempt_id, limits, key_id
            )
            await _record(connection, organization, attempt_id, actor)
    if known is not None:
        return ToppedUp(known, await _fresh_link(charger, known, actor))
    await charger.on_session(link).carry(lease)
    async with charger.pool.acquire() as connection:
        row = await attempt_store.find_attempt(connection, organization.id, attempt_id)
    assert row is not None  # noqa: S101 - it was stored above, and attempts are never deleted
    waits = row["state"] == AttemptState.REQUIRES_ACTION
    return ToppedUp(row, f"{charger.public_url}/pay/{link}" if waits else None)


async def _begin(
    connection: Connection,
    charger: Charger,
    organization: Organization,
    price: ChargeAmount,
    attempt_id: UUID,
    limits: DailyLimits,
    key_id: UUID | None,
) -> Lease[ChargingAttempt]:
    """Store the attempt under a lease; raise the reason if it cannot be stored."""
    await organizations.check_open(connection, organization.id)
    now = charger.now()
    since = now - TOP_UP_DECLINES_WITHIN
    if (
        await top_up_store.recent_declines(connection, organization.id, since)
        >= TOP_UP_DECLINES_MAX
    ):
        raise MethodDeclinedError
    await daily.check(connection, limits, organization, price, key_id=key_id, now=now)
    replaced = await top_up_store.cancel_armed(connection, organization.id, now)
    lease = await top_up_store.begin_top_up(
        connection,
        organization.id,
        attempt_id,
        price,
        currency=organization.currency,
        credits_per_unit=charger.terms.credits_per_unit,
        now=now,
        token=uuid4(),
        lease=charger.lease,
        key_id=key_id,
    )
    if lease is None:
        raise await _refusal(connection, organization)
    if replaced is not None:
        metrics.RECHARGE_ATTEMPTS.labels("canceled").inc()
        log.info("recharge.replaced", attempt_id=str(replaced), top_up=str(attempt_id))
    return lease


async def _refusal(connection: Connection, organization: Organization) -> PrepaidError:
    """Return why no attempt could be stored: no payment method, or another live attempt."""
    if await attempt_store.has_method(connection, organization.id):
        return await _under_way(connection, organization)
    if await attempt_store.has_undescribed_method(connection, organization.id):
        return MethodUndescribedError(retry_after_seconds=RETRY_AFTER_SECONDS)
    return NoPaymentMethodError()


async def _replace_waiting(
    charger: Charger,
    organization: Organization,
    attempt_id: UUID,
    price: ChargeAmount,
    limits: DailyLimits,
    key_id: UUID | None,
) -> None:
    """Cancel another top-up whose authentication was abandoned, to make room for this one."""
    async with charger.pool.acquire() as connection:
        if await attempt_store.find_attempt(connection, organization.id, attempt_id) is not None:
            return  # a retry creates and replaces nothing
        live = await attempt_store.live(connection, organization.id)
        can_be_made = await attempt_store.has_method(connection, organization.id)
    if (
        live is not None
        and can_be_made
        and live.trigger is Trigger.TOP_UP
        and live.state is AttemptState.REQUIRES_ACTION
    ):
        async with charger.pool.acquire() as connection:  # before anything is canceled
            await daily.check(
                connection, limits, organization, price, key_id=key_id, now=charger.now()
            )
        detail = "another top-up replaces it"
        await cancellation.end(charger, organization.id, live.id, detail=detail, waits=False)


async def _under_way(connection: Connection, organization: Organization) -> ConflictError:
    """Return the error for a live attempt that blocks a top-up."""
    if await attempt_store.waiting(connection, organization.id) is None:
        return ConflictError(
            "A charge of this organization is under way; ask again when it has ended.",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )
    return ConflictError(
        "A charge waits for its customer's bank: see auto-recharge/requires-action. Another can be "
        "made when that one has ended."
    )


async def _fresh_link(charger: Charger, attempt: asyncpg.Record, actor: Actor | str) -> str | None:
    """Return a new link to the page of a waiting attempt; the old one ends."""
    if attempt["state"] != "requires_action":
        return None
    link = new_link()
    try:
        async with charger.pool.acquire() as connection, connection.transaction():
            await service.fresh_link(connection, attempt["organization_id"], link, actor=actor)
    except NotFoundError:  # it has left that state meanwhile
        return None
    return f"{charger.public_url}/pay/{link}"


async def _record(
    connection: Connection, organization: Organization, attempt_id: UUID, actor: Actor | str
) -> None:
    await audit.record(
        connection,
        actor=actor,
        action="recharge.top_up",
        subject=str(attempt_id),
        organization_id=organization.id,
    )
