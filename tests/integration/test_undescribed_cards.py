"""A card that is on file by its id alone is no missing card: it suspends nobody."""

from __future__ import annotations

from datetime import UTC, datetime

from shared.payments.lookup import StripeLookup
from tests.fixtures.recharging import Shop
from worker.payment_method_fetcher import PaymentMethodFetcher


async def saved_by_a_payment(shop: Shop) -> None:
    """Leave the card as a payment leaves one that it saves."""
    await shop.pool.execute("UPDATE payment_methods SET as_of = to_timestamp(0)")


async def describe(shop: Shop) -> None:
    lookup = StripeLookup(shop.client)
    await PaymentMethodFetcher(shop.pool, lookup, now=lambda: datetime.now(UTC)).fetch()


async def test_a_recharge_waits_until_stripe_has_described_the_card(shop: Shop) -> None:
    await shop.add_endpoint()
    await shop.open()
    await saved_by_a_payment(shop)
    await shop.work()
    assert (await shop.attempt())["state"] == "armed"
    assert (await shop.settings()).state == "active"
    await describe(shop)
    await shop.work()
    assert (await shop.attempt())["state"] == "succeeded"
    assert await shop.captures() == [2000]
    assert await shop.messages() == ["credits.low", "credits.recovered", "recharge.succeeded"]


async def test_a_key_that_may_not_read_payment_methods_suspends_nobody(shop: Shop) -> None:
    """M3."""
    await shop.add_endpoint()
    await shop.open()
    await saved_by_a_payment(shop)
    path = "/v1/payment_methods/*"
    await shop.sim("faults", method="GET", path=path, fault="forbidden_403", times=9)
    await describe(shop)
    await shop.work()
    assert (await shop.settings()).state == "active"
    assert await shop.messages() == ["credits.low"]
