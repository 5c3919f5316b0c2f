"""The SQL of suspensions, pauses and declines."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db.queries import beside
from shared.recharge.attempts import store as attempt_store
from shared.recharge.model import (
    ENDED_BY_A_PERSON,
    NO_CARD_BEFORE,
    RechargeState,
    SuspensionReason,
)
from shared.recharge.states import outranked

if TYPE_CHECKING:
    from shared.db.pool import Connection

QUERIES = beside(__file__)


async def suspend(
    connection: Connection,
    organization_id: UUID,
    reason: SuspensionReason,
    detail: str,
    *,
    until: datetime | None,
) -> bool:
    """Suspend an active auto-recharge, or replace a reason of lower rank; return whether it did.

    While auto-recharge is off, a reason that only a person ends is stored; returns False.
    """
    state = await connection.fetchval(
        QUERIES.suspend, organization_id, reason, detail, until,
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
    old = {NO_CARD_BEFORE} if SuspensionReason.NO_CARD in reasons else set()
    return [*reasons, *old]


async def end_wait(connection: Connection, organization_id: UUID) -> None:
    """End the wait after a decline, and make an armed attempt due now."""
    if await connection.fetch(QUERIES.end_wait, organization_id):
        await attempt_store.notify_workers(connection)


async def expire_links_of_other_cards(connection: Connection, organization_id: UUID) -> None:
    """End the link of a waiting attempt if another card would be charged now."""
    if await connection.fetch(QUERIES.expire_links_of_other_cards, organization_id):
        await attempt_store.notify_workers(connection)


async def pause(connection: Connection, organization_id: UUID) -> None:
    """Arm no attempts while the customer must act."""
    await connection.execute(QUERIES.pause, organization_id)


async def unpause(connection: Connection, organization_id: UUID) -> None:
    """Arm attempts again after `pause`."""
    await connection.execute(QUERIES.unpause, organization_id)


async def record_success(connection: Connection, organization_id: UUID, now: datetime) -> None:
    """Clear the declines and the wait for the customer; start the pause after a charge."""
    await connection.execute(QUERIES.record_success, organization_id, now)


async def record_decline(
    connection: Connection, organization_id: UUID, declines: int, not_before: datetime | None
) -> None:
    """Count a decline."""
    await connection.execute(QUERIES.record_decline, organization_id, declines, not_before)


async def has_open_inquiry(connection: Connection, organization_id: UUID) -> bool:
    """Return whether a payment of an organization is under inquiry."""
    exists: bool = await connection.fetchval(QUERIES.has_open_inquiry, organization_id)
    return exists
