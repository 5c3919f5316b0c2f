"""Outbound messages about purchases. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid5

from shared.ids import transaction_public_id
from shared.ledger.model import PostedTransaction
from shared.outbound.model import MessageType, OutboundMessage


def purchase_completed(
    posted: PostedTransaction, paid: Mapping[str, Any], now: datetime
) -> OutboundMessage:
    """Return the message for a credited purchase; its id is derived from the ledger row's."""
    return OutboundMessage(
        organization_id=posted.organization_id,
        type=MessageType.PURCHASE_COMPLETED,
        data={
            "transactionId": transaction_public_id(posted.id),
            "credits": posted.amount,
            "balanceAfter": posted.balance_after,
            **paid,
        },
        id=uuid5(posted.id, MessageType.PURCHASE_COMPLETED),
        at=now,
    )
