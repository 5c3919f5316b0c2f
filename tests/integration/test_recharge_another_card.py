"""Another card that is on file before the decline of the one before it is known."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.recharge import service
from tests.fixtures.recharging import Shop

SOFT = "4000000000000341"
STOLEN = "4000000000009979"
CANCEL: dict[str, Any] = {"method": "POST", "path": "/v1/payment_intents/*/cancel"}


async def tick(shop: Shop) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.tick(connection, now=shop.clock())


async def another_card(shop: Shop, card: str = "pm_card_visa") -> None:
    await shop.save_card(card)
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.card_changed(connection, shop.owner.id)


async def change(shop: Shop, number: str) -> None:
    """Have the only card answer as this number does."""
    card = await shop.pool.fetchval("SELECT id FROM payment_methods ORDER BY as_of DESC LIMIT 1")
    await shop.sim(f"payment_methods/{card}/card", card=number)


@pytest.mark.parametrize("number", [SOFT, STOLEN], ids=["soft", "hard"])
async def test_a_decline_of_the_card_before_keeps_the_new_one_from_nothing(
    shop: Shop, number: str
) -> None:
    """M20."""
    await shop.add_endpoint()
    await shop.sim("faults", **CANCEL, fault="refused", times=1)
    await shop.open()
    await change(shop, number)
    await shop.work()
    assert (await shop.attempt())["settled_at"] is None
    await another_card(shop)
    await shop.work()
    assert (await shop.attempt())["state"] == "failed"
    found = await shop.settings()
    assert (found.state, found.declines_in_row, found.not_before) == ("active", 0, None)
    await tick(shop)
    await shop.work()
    assert await shop.captures() == [2000]
    kinds = [kind for kind in await shop.messages() if kind.startswith("recharge.")]
    assert kinds == ["recharge.failed", "recharge.succeeded"]


async def test_a_card_that_cannot_be_charged_after_another_counts_for_itself(shop: Shop) -> None:
    await shop.sim("faults", **CANCEL, fault="refused", times=1)
    await shop.open("pm_card_chargeCustomerFail")
    await shop.work()
    await another_card(shop)
    await change(shop, STOLEN)
    await shop.work()
    await tick(shop)
    await shop.work()
    assert [row["state"] for row in await shop.attempts()] == ["failed", "failed"]
    found = await shop.settings()
    assert (found.state, found.reason) == ("suspended", "declines")


async def test_another_card_is_charged_instead_of_the_one_that_waits_for_its_customer(
    shop: Shop,
) -> None:
    await shop.add_endpoint()
    await shop.open("pm_card_authenticationRequired")
    await shop.work()
    assert (await shop.settings()).state == "paused_requires_action"
    await another_card(shop)
    shop.clock.now += timedelta(minutes=1)
    await shop.work()
    await shop.work()
    assert [row["state"] for row in await shop.attempts()] == ["succeeded", "canceled"]
    assert await shop.captures() == [2000]
    assert (await shop.settings()).state == "active"
    assert "recharge.suspended" not in await shop.messages()


async def test_the_same_card_renewed_leaves_its_customer_the_page(shop: Shop) -> None:
    await shop.open("pm_card_authenticationRequired")
    await shop.work()
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.card_changed(connection, shop.owner.id)
    shop.clock.now += timedelta(minutes=1)
    await shop.work()
    assert (await shop.attempt())["state"] == "requires_action"
    assert (await shop.settings()).state == "paused_requires_action"
