"""Outbound messages about purchases. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from shared.ids import transaction_public_id
from shared.ledger.model import PostedTransaction, Posting
from shared.outbound.model import MessageType, OutboundMessage


def purchase_completed(
    posted: PostedTransaction, paid: Mapping[str, Any], now: datetime
) -> OutboundMessage:
    """Return the message for a credited purchase; its id is derived from the ledger row's."""
    balance = {"balanceAfter": posted.balance_after}
    return _message(posted.organization_id, posted.id, posted.amount, balance | dict(paid), now)


def purchase_to_complete(
    posting: Posting, paid: Mapping[str, Any], now: datetime
) -> OutboundMessage:
    """Return the same message before its posting: without `balanceAfter`, which SQL adds."""
    return _message(posting.organization_id, posting.id, posting.amount, paid, now)


def _message(
    organization_id: UUID,
    transaction_id: UUID,
    credits_: Decimal | None,
    details: Mapping[str, Any],
    now: datetime,
) -> OutboundMessage:
    return OutboundMessage(
        organization_id=organization_id,
        type=MessageType.PURCHASE_COMPLETED,
        data={
            "transactionId": transaction_public_id(transaction_id),
            "credits": credits_,
            **details,
        },
        id=uuid5(transaction_id, MessageType.PURCHASE_COMPLETED),
        at=now,
    )
