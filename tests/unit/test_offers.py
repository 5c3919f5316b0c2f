"""What a purchase and a recharge attempt offer."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import pytest

from shared.ledger.model import TransactionType
from shared.payments import offers
from shared.payments.model import Offer

ACME = UUID(int=1)
OFFER = Offer(
    organization_id=ACME,
    currency="eur",
    net_minor=1000,
    credits=Decimal(25),
    type=TransactionType.RECHARGE,
    description="Auto-recharge",
)


@pytest.mark.parametrize(
    ("top_up", "kind", "description"),
    [
        (True, TransactionType.PURCHASE, "Top-up"),
        (False, TransactionType.RECHARGE, "Auto-recharge"),
    ],
)
def test_an_attempt_offers_what_it_charges_for(
    kind: TransactionType, description: str, *, top_up: bool
) -> None:
    offer = offers.offer_of_attempt(
        organization_id=ACME,
        currency="eur",
        amount_minor=1000,
        credits_=Decimal(25),
        top_up=top_up,
    )
    assert offer == replace(OFFER, type=kind, description=description)


def test_a_purchase_offers_its_credits() -> None:
    offer = offers.offer_of_purchase(
        organization_id=ACME, currency="eur", amount_minor=1000, credits_=Decimal(25)
    )
    assert offer == replace(OFFER, type=TransactionType.PURCHASE, description="Credit purchase")
