"""Auto-recharge, in the caller's transaction: what suspends it and what ends a suspension."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from shared.ids import new_id
from shared.notifications import service as notifications
from shared.notifications.model import Message, MessageType
from shared.recharge import store
from shared.recharge.model import SuspensionReason

if TYPE_CHECKING:
    from shared.db.pool import Connection

# Another card can end these; the others need a person, or time.
_ENDED_BY_A_CARD = frozenset({
    SuspensionReason.DECLINES,
    SuspensionReason.NO_PAYMENT_METHOD,
    SuspensionReason.AUTHENTICATION_EXPIRED,
})  # fmt: skip


async def suspend(
    connection: Connection,
    organization_id: UUID,
    reason: SuspensionReason,
    detail: str,
    *,
    now: datetime,
    until: datetime | None = None,
    fingerprint: str | None = None,
    make_id: Callable[[], UUID] = new_id,
) -> bool:
    """Stop an organization's auto-recharge and tell its app; return whether it was running.

    A live attempt is settled all the same; nothing new is armed. `fingerprint` is the card that
    was declined: another one ends the suspension.
    """
    suspended = await store.suspend(
        connection, organization_id, reason, detail, until=until, fingerprint=fingerprint
    )
    if suspended:
        message = Message(
            organization_id=organization_id,
            type=MessageType.RECHARGE_SUSPENDED,
            data={"reason": str(reason), "detail": detail, "until": until},
            id=make_id(),
            at=now,
        )
        await notifications.announce(connection, [message])
    return suspended


async def card_kept(connection: Connection, organization_id: UUID) -> bool:
    """End a suspension that another card can end; return whether there was one.

    Call it when a card is on file that the organization did not have before.
    """
    return await store.resume(connection, organization_id, _ENDED_BY_A_CARD)
