"""The link to the page on which a customer authenticates a payment."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

from shared.recharge import rules
from shared.recharge.attempts import store as attempt_store
from shared.recharge.model import AttemptState, Trigger

if TYPE_CHECKING:
    from shared.db.pool import Connection


LINK_BYTES = 32


class Standing(StrEnum):
    """The state that the page of a link shows."""

    OPEN = "open"
    UNDER_WAY = "under_way"
    PAID = "paid"
    EXPIRED = "expired"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The payment of a link.

    `credits` is what it buys. `needed` is the use whose refusal caused it. `threshold` is the
    rule's, where the rule has not changed since.
    """

    organization_id: UUID
    attempt_id: UUID
    organization_name: str
    state: AttemptState
    trigger: Trigger
    credits: Decimal
    needed: Decimal | None
    threshold: Decimal | None
    amount_minor: int
    currency: str
    payment_intent_id: str
    payment_method_id: str
    stripe_account: str
    method: str
    link_expires_at: datetime

    def standing(self, now: datetime) -> Standing:
        """Return the state that its page shows now."""
        if self.state is AttemptState.SUCCEEDED:
            return Standing.PAID
        if self.state is AttemptState.FAILED:
            return Standing.FAILED
        if self.state is AttemptState.CANCELED:
            return Standing.CANCELED
        if self.state is not AttemptState.REQUIRES_ACTION:
            return Standing.UNDER_WAY
        return Standing.OPEN if now < self.link_expires_at else Standing.EXPIRED


def new_link() -> str:
    """Return 256 random bits, URL-safe."""
    return secrets.token_urlsafe(LINK_BYTES)


def link_digest(link: str) -> bytes:
    """Return the stored digest of a link: 256 random bits need no slow hash."""
    return hashlib.sha256(link.encode()).digest()


async def find(connection: Connection, link: str) -> Recovery | None:
    """Return the payment of a link; None: unknown, or replaced by a newer link."""
    row = await attempt_store.by_link(connection, link_digest(link))
    if row is None:
        return None
    kind: str = row["brand"] or row["payment_method_type"]
    last4 = f" ending in {row['last4']}" if row["last4"] else ""
    state, trigger = AttemptState(row["state"]), Trigger(row["trigger"])
    return Recovery(
        organization_id=row["organization_id"],
        attempt_id=row["id"],
        organization_name=row["organization_name"],
        state=state,
        trigger=trigger,
        credits=row["amount"],
        needed=row["needed"],
        threshold=rules.threshold_shown(
            row["threshold"],
            state=state,
            trigger=trigger,
            armed_at=row["created_at"],
            rule_changed_at=row["rule_changed_at"],
        ),
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        payment_intent_id=row["payment_intent_id"],
        payment_method_id=row["payment_method_id"],
        stripe_account=row["stripe_account"],
        method=kind.replace("_", " ").capitalize() + last4,
        link_expires_at=row["link_expires_at"],
    )
