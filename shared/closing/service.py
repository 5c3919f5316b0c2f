"""Closing an organization, and opening it again, in the caller's transaction.

A closed organization can be read. Debits, holds, grants, checkouts, cards and recharges are
refused, and a payment that arrives later is a dead event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.access import service as audit
from shared.access.model import Actor
from shared.closing import store
from shared.errors import ConflictError
from shared.organizations import store as organizations
from shared.organizations.model import Organization
from shared.recharge import service as recharge
from shared.recharge import store as recharge_store
from shared.recharge.attempts import store as attempts
from shared.recharge.model import AttemptState, RechargeState

if TYPE_CHECKING:
    from shared.db.pool import Connection

HOLDS_RELEASED_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Closing:
    """What closing did, and what Stripe may still charge.

    `open_checkouts` can be paid until they expire. `subscriptions` are charged until they are
    canceled at Stripe.
    """

    changed: bool
    holds_released: int = 0
    open_checkouts: int = 0
    subscriptions: int = 0


async def close(
    connection: Connection,
    organization: Organization,
    *,
    actor: Actor | str,
    reason: str,
    force: bool = False,
) -> Closing:
    """Close an organization; one that is closed already is unchanged.

    Auto-recharge is turned off, and stays off after a reopening. Raises ConflictError while a
    charge is under way, and, without `force`, while there are active holds, open checkouts or
    subscriptions. `force` releases the holds.
    """
    await recharge.lock_account(connection, organization.id)
    if await organizations.closed_at(connection, organization.id) is not None:
        return Closing(changed=False)
    await _refuse_live_attempt(connection, organization)
    holds = await _active_holds(connection, organization)
    checkouts = await store.open_checkouts(connection, organization.id)
    subscriptions = await store.charging_subscriptions(connection, organization.id)
    if (holds or checkouts or subscriptions) and not force:
        raise ConflictError(
            f"{organization.slug} has {holds} active holds, {checkouts} open checkouts and"
            f" {subscriptions} subscriptions, which are canceled at Stripe. Forced, closing"
            " releases the holds, and a later payment becomes a dead event."
        )
    released = await store.release_holds(connection, organization.id) if holds else 0
    if await _recharges(connection, organization):
        await recharge.turn_off(connection, organization.id, actor=actor, reason=reason)
    await organizations.set_closed(connection, organization.id, closed=True)
    await audit.record(
        connection,
        actor=actor,
        action="organizations.close",
        subject=str(organization.id),
        organization_id=organization.id,
        reason=reason,
        details={
            "holdsReleased": released,
            "openCheckouts": checkouts,
            "subscriptions": subscriptions,
        },
    )
    return Closing(
        changed=True,
        holds_released=released,
        open_checkouts=checkouts,
        subscriptions=subscriptions,
    )


async def reopen(
    connection: Connection, organization: Organization, *, actor: Actor | str, reason: str
) -> bool:
    """Open a closed organization again; return whether it was closed. Auto-recharge stays off.

    Raises ConflictError for an organization whose personal data was erased.
    """
    await recharge.lock_account(connection, organization.id)
    if await organizations.is_erased(connection, organization.id):
        raise ConflictError(
            f"The personal data of {organization.slug} was erased. Create another organization."
        )
    changed = await organizations.set_closed(connection, organization.id, closed=False)
    if changed:
        await audit.record(
            connection,
            actor=actor,
            action="organizations.reopen",
            subject=str(organization.id),
            organization_id=organization.id,
            reason=reason,
        )
    return changed


async def _refuse_live_attempt(connection: Connection, organization: Organization) -> None:
    """Raise ConflictError for an attempt that may charge; an armed one stops by itself."""
    live = await attempts.live(connection, organization.id)
    if live is not None and live.state is not AttemptState.ARMED:
        raise ConflictError(
            f"The attempt {live.id} of {organization.slug} is {live.state}. Wait for its end, or"
            f" cancel it: prepaid recharge cancel {live.id}."
        )


async def _recharges(connection: Connection, organization: Organization) -> bool:
    rules = await recharge_store.settings(connection, organization_id=organization.id)
    return any(rule.state is not RechargeState.OFF for rule in rules)


async def _active_holds(connection: Connection, organization: Organization) -> int:
    holds = await store.active_holds(connection, organization.id, rows_max=HOLDS_RELEASED_MAX + 1)
    if holds > HOLDS_RELEASED_MAX:
        raise ConflictError(
            f"{organization.slug} has more than {HOLDS_RELEASED_MAX} active holds. Release them"
            " first, or wait until they expire."
        )
    return holds
