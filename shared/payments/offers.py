"""What a purchase or a recharge attempt offers, as it was fixed when it was opened. Pure."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from shared.ledger.model import TransactionType
from shared.payments.model import Offer


def offer_of_attempt(
    *, organization_id: UUID, currency: str, amount_minor: int, credits_: Decimal, top_up: bool
) -> Offer:
    """Return the offer of a recharge attempt; a top-up is a purchase by the customer."""
    return Offer(
        organization_id=organization_id,
        currency=currency,
        net_minor=amount_minor,
        credits=credits_,
        type=TransactionType.PURCHASE if top_up else TransactionType.RECHARGE,
        description="Top-up" if top_up else "Auto-recharge",
    )


def offer_of_purchase(
    *, organization_id: UUID, currency: str, amount_minor: int, credits_: Decimal | None
) -> Offer:
    """Return the offer of a purchase."""
    return Offer(
        organization_id=organization_id,
        currency=currency,
        net_minor=amount_minor,
        credits=credits_,
        type=TransactionType.PURCHASE,
        description="Credit purchase",
    )
