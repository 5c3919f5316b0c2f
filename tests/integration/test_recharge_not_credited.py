"""A recharge is captured, and the ledger refuses its credits: a person decides, and once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import structlog

from sandbox.signed_events import event
from shared.organizations import store
from shared.recharge.model import SuspensionReason
from tests.fixtures.ledger import post, usage
from tests.fixtures.product import balance, event_row, receive
from tests.integration.test_recharge_faults import POINTS

if TYPE_CHECKING:
    from shared.replay.service import Replayer
    from tests.fixtures.recharging import Shop
    from worker.drainer import Drainer


async def captured_and_refused(shop: Shop) -> None:
    """Capture a recharge whose answer is lost, and close its organization meanwhile.

    `prepaid orgs close` refuses that: somebody wrote it into the database.
    """
    await shop.open()
    await shop.sim("faults", **POINTS["confirm"], fault="answer_lost")
    await shop.work()
    assert (await shop.attempt())["state"] == "unknown"
    await close(shop, closed=True)
    await shop.work()


async def close(shop: Shop, *, closed: bool) -> None:
    async with shop.pool.acquire() as connection:
        assert await store.set_closed(connection, shop.owner.id, closed=closed)


async def captured_event(shop: Shop) -> bytes:
    """Return the event of the payment, as Stripe sends it."""
    intent = await shop.client.v1.payment_intents.retrieve_async(
        (await shop.attempt())["payment_intent_id"]
    )
    return event("captured", "payment_intent.succeeded", json.loads(str(intent)))


async def test_a_captured_recharge_that_cannot_be_credited_ends_and_is_suspended(
    shop: Shop,
) -> None:
    with structlog.testing.capture_logs() as logs:
        await captured_and_refused(shop)
    attempt = await shop.attempt()
    assert (attempt["state"], attempt["reason"]) == ("failed", "not_credited")
    assert "is closed. Reopen it" in attempt["detail"]
    assert await shop.captures() == [2000]
    assert await balance(shop.pool) == 7
    assert await shop.pool.fetchval("SELECT count(*) FROM stripe_payments") == 0
    (line,) = [line for line in logs if line["event"] == "recharge.not_credited"]
    assert line["payment_intent_id"] == attempt["payment_intent_id"]
    settings = await shop.settings()
    assert settings.reason is SuspensionReason.CHARGE_REFUSED


async def test_nothing_is_charged_again_after_a_charge_that_was_not_credited(shop: Shop) -> None:
    await captured_and_refused(shop)
    await close(shop, closed=False)
    await post(shop.pool, usage(shop.owner, 1))
    await shop.work_until_settled()
    assert await shop.captures() == [2000]
    assert len(await shop.attempts()) == 1


@pytest.mark.usefixtures("organization")
async def test_its_event_is_dead_and_credits_it_once_after_a_replay(
    shop: Shop, drainer: Drainer, replayer: Replayer
) -> None:
    await captured_and_refused(shop)
    await receive(shop.pool, await captured_event(shop))
    await drainer.drain()
    row = await event_row(shop.pool, "evt_captured")
    assert (row["state"], row["error_class"]) == ("dead", "PostingRefusedError")
    await close(shop, closed=False)
    for applied in (1, 0):
        report = await replayer.replay([row["id"]], actor="test", reason="reopened")
        assert report["applied"] == applied
    assert await balance(shop.pool) == 27
