"""A rule whose only card is not described yet waits for that; it is not without a card."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from shared.errors import ConflictError
from shared.ids import new_id
from shared.payments.lookup import StripeLookup
from shared.recharge.rules import ChargeAmount
from shared.recharge.states import UNANSWERED_MAX
from shared.recharge.top_ups.service import top_up
from tests.fixtures.recharging import Shop
from worker.payment_method_fetcher import PaymentMethodFetcher

LOOK = timedelta(seconds=5)


async def forget_details(shop: Shop) -> None:
    """Leave the id of each card alone, as a payment that saved it notes it."""
    await shop.pool.execute(
        "UPDATE payment_methods SET type = 'unknown', fingerprint = NULL, as_of = to_timestamp(0)"
    )


async def open_undescribed(shop: Shop, card: str = "pm_card_visa") -> None:
    await shop.add_endpoint()
    await shop.open(card)
    await forget_details(shop)
    await shop.work()


async def describe(shop: Shop) -> None:
    assert await PaymentMethodFetcher(shop.pool, StripeLookup(shop.client)).fetch() == 1


async def test_a_rule_that_arms_before_its_only_card_is_described_charges_it_afterwards(
    shop: Shop,
) -> None:
    await open_undescribed(shop)
    assert (await shop.attempt())["state"] == "armed"
    assert (await shop.settings()).state == "active"
    await describe(shop)
    shop.clock.now += LOOK
    await shop.work()
    assert await shop.captures() == [2000]
    kinds = [kind for kind in await shop.messages() if kind.startswith("recharge.")]
    assert kinds == ["recharge.succeeded"]


async def test_a_card_that_stripe_does_not_have_suspends_once_it_is_known(shop: Shop) -> None:
    await open_undescribed(shop)
    await shop.pool.execute("UPDATE payment_methods SET id = 'pm_of_nobody'")
    await describe(shop)
    await shop.work()
    assert (await shop.attempt())["state"] == "canceled"
    found = await shop.settings()
    assert (found.state, found.reason) == ("suspended", "no_card")


async def test_a_card_that_nobody_describes_holds_no_attempt_beyond_its_deadline(
    shop: Shop,
) -> None:
    await open_undescribed(shop)
    shop.clock.now += UNANSWERED_MAX + LOOK
    await shop.work()
    assert (await shop.attempt())["state"] == "canceled"
    assert (await shop.settings()).state == "active"


async def test_a_top_up_before_its_card_is_described_is_a_conflict_for_seconds(shop: Shop) -> None:
    await shop.save_card()
    await forget_details(shop)
    price = ChargeAmount(2000, Decimal(20))
    with pytest.raises(ConflictError) as refused:
        await top_up(shop.charger, shop.owner, price, attempt_id=new_id(), actor="test")
    assert refused.value.retry_after_seconds
    assert await shop.attempts() == []
    await describe(shop)
    await top_up(shop.charger, shop.owner, price, attempt_id=new_id(), actor="test")
    assert await shop.captures() == [2000]


async def test_a_charged_card_that_is_gone_beside_one_not_described_suspends_nothing(
    shop: Shop,
) -> None:
    await shop.add_endpoint()
    await shop.open()
    other = await shop.save_card()
    await shop.pool.execute(
        "UPDATE payment_methods SET as_of = to_timestamp(0) WHERE customer_id = $1", other
    )
    await shop.pool.execute(
        "UPDATE payment_methods SET id = 'pm_of_nobody' WHERE customer_id <> $1", other
    )
    await shop.work()
    assert (await shop.settings()).state == "active"
