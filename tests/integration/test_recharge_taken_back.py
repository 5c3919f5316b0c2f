"""Refunds and disputes of recharges, from Stripe's events to what auto-recharge does afterwards."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from sandbox.signed_events import event
from shared.events.service import Applier
from shared.ids import new_id
from shared.payments.lookup import StripeLookup
from shared.payments.model import SaleTerms
from shared.recharge import service
from shared.recharge.rules import ChargeAmount
from shared.recharge.top_ups.service import top_up
from tests.fixtures.ledger import balances, grant, post, usage
from tests.fixtures.product import event_states, payment, receive
from tests.fixtures.recharging import TOP, Shop
from worker.drainer import Drainer

_numbers = itertools.count()


async def arrive(shop: Shop, *bodies: bytes) -> None:
    """Receive events and apply them, asking the simulator."""
    applier = Applier(shop.pool, SaleTerms(Decimal(1)), lookup=StripeLookup(shop.client))
    await receive(shop.pool, *bodies)
    await Drainer(shop.pool, applier, make_token=uuid4).drain()
    assert set((await event_states(shop.pool)).values()) <= {"applied"}


def about(payment_intent_id: str, kind: str) -> bytes:
    told = {"id": f"x_{payment_intent_id}", "payment_intent": payment_intent_id, "charge": "ch_x"}
    return event(f"taken_back_{next(_numbers)}", kind, told)


async def refund(shop: Shop, payment_intent_id: str, amount: int | None = None) -> None:
    asked: Any = {"payment_intent": payment_intent_id}
    if amount is not None:
        asked["amount"] = amount
    await shop.client.v1.refunds.create_async(asked)
    kinds = ("charge.refunded", "refund.created", "refund.updated")
    await arrive(shop, *(about(payment_intent_id, kind) for kind in kinds))


async def disputed(shop: Shop, payment_intent_id: str, *, inquiry: bool) -> str:
    intent = await shop.client.v1.payment_intents.retrieve_async(payment_intent_id)
    found = await shop.sim(f"charges/{intent.latest_charge}/dispute", inquiry=inquiry)
    await arrive(shop, about(payment_intent_id, "charge.dispute.created"))
    dispute: str = found["id"]
    return dispute


async def close(shop: Shop, payment_intent_id: str, dispute: str, outcome: str = "won") -> None:
    await shop.sim(f"disputes/{dispute}/close", outcome=outcome)
    await arrive(shop, about(payment_intent_id, "charge.dispute.closed"))


async def go_on(shop: Shop) -> None:
    """Let the clock run and the worker work."""
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.tick(connection, now=shop.clock())
    await shop.work()


async def standing(shop: Shop) -> tuple[str, str | None]:
    found = await shop.settings()
    return found.state, found.reason


async def suspensions(shop: Shop) -> list[str]:
    rows = await shop.pool.fetch(
        "SELECT payload FROM outbound_messages"
        " WHERE type = 'recharge.suspended' ORDER BY created_at"
    )
    return [json.loads(row["payload"])["data"]["reason"] for row in rows]


async def recharged(shop: Shop) -> str:
    """Recharge once, from 7 to 27, and return the payment."""
    await shop.add_endpoint()
    await shop.open()
    await shop.work()
    name: str = (await shop.attempt())["payment_intent_id"]
    return name


@pytest.mark.parametrize("parts", [(None,), (500,), (500, 1500), (1, 1)])
async def test_m4_a_refunded_recharge_charges_nothing_until_the_customer_buys(
    shop: Shop, parts: tuple[int | None, ...]
) -> None:
    name = await recharged(shop)
    for part in parts:
        await refund(shop, name, part)
        await go_on(shop)
    await post(shop.pool, usage(shop.owner, 30), usage(shop.owner, 1))
    await go_on(shop)
    assert await standing(shop) == ("suspended", "refunded")
    assert await shop.captures() == [2000]
    assert len(await shop.attempts()) == 1
    assert await suspensions(shop) == ["refunded"]
    await arrive(shop, payment("bought"))
    assert await standing(shop) == ("active", None)
    balance, _ = await balances(shop.pool, shop.owner)
    await post(shop.pool, usage(shop.owner, balance - 1))
    await go_on(shop)
    assert len(await shop.captures()) == 2
    assert await suspensions(shop) == ["refunded"]


async def test_m4_events_of_the_recharge_itself_are_no_purchase_of_the_customer(shop: Shop) -> None:
    name = await recharged(shop)
    await refund(shop, name)
    row = await shop.attempt()
    named = {
        "organization_id": str(shop.owner.id),
        "recharge_attempt_id": str(row["id"]),
        "recharge_trigger": "threshold",
    }
    told = payment(name.removeprefix("pi_"), metadata=named, amount=2000, amount_received=2000)
    await arrive(shop, told)
    assert await standing(shop) == ("suspended", "refunded")


async def test_m4_a_refund_that_comes_before_the_answer_leaves_nothing_to_charge(
    shop: Shop,
) -> None:
    await shop.add_endpoint()
    path = "/v1/payment_intents/*/confirm"
    await shop.sim("faults", method="POST", path=path, fault="answer_lost", times=1)
    await shop.open()
    await shop.work()
    row = await shop.attempt()
    assert row["state"] == "unknown"
    await refund(shop, row["payment_intent_id"])
    await go_on(shop)
    await post(shop.pool, usage(shop.owner, 1))
    await go_on(shop)
    assert [one["state"] for one in await shop.attempts()] == ["succeeded"]
    assert await standing(shop) == ("suspended", "refunded")
    assert await shop.captures() == [2000]
    assert await suspensions(shop) == ["refunded"]


async def test_m4_a_refunded_top_up_suspends_nothing(shop: Shop) -> None:
    await shop.add_endpoint()
    await shop.save_card()
    await shop.agree()
    await post(shop.pool, grant(shop.owner, 12))
    price = ChargeAmount(2000, Decimal(20))
    done = await top_up(shop.charger, shop.owner, price, attempt_id=new_id(), actor="test")
    await refund(shop, done.attempt["payment_intent_id"])
    await go_on(shop)
    assert await standing(shop) == ("active", None)
    assert await balances(shop.pool, shop.owner) == (12, 0)
    await post(shop.pool, usage(shop.owner, 5))
    await go_on(shop)
    assert len(await shop.captures()) == 2


async def test_m4_a_top_up_is_a_purchase_after_a_refund(shop: Shop) -> None:
    name = await recharged(shop)
    await refund(shop, name)
    price = ChargeAmount(2000, Decimal(20))
    await top_up(shop.charger, shop.owner, price, attempt_id=new_id(), actor="test")
    assert await standing(shop) == ("active", None)


async def test_an_inquiry_pauses_until_it_closes(shop: Shop) -> None:
    name = await recharged(shop)
    inquiry = await disputed(shop, name, inquiry=True)
    assert await standing(shop) == ("suspended", "inquiry")
    await post(shop.pool, usage(shop.owner, 25))
    await go_on(shop)
    assert await shop.captures() == [2000]
    await close(shop, name, inquiry)
    assert await standing(shop) == ("active", None)
    await go_on(shop)
    assert len(await shop.captures()) == 2
    assert await suspensions(shop) == ["inquiry"]


async def test_an_inquiry_that_becomes_a_chargeback_waits_for_a_person(shop: Shop) -> None:
    """M10."""
    name = await recharged(shop)
    inquiry = await disputed(shop, name, inquiry=True)
    await shop.sim(f"disputes/{inquiry}/escalate")
    await arrive(shop, about(name, "charge.dispute.updated"))
    assert await standing(shop) == ("suspended", "dispute")
    await close(shop, name, inquiry)
    await go_on(shop)
    assert await standing(shop) == ("suspended", "dispute")
    assert await suspensions(shop) == ["inquiry", "dispute"]


async def two_recharges(shop: Shop) -> tuple[str, str]:
    first = await recharged(shop)
    await post(shop.pool, usage(shop.owner, 20))
    await go_on(shop)
    second: str = (await shop.attempt())["payment_intent_id"]
    assert first != second
    return first, second


async def test_a_closed_inquiry_resumes_only_where_no_other_is_open(shop: Shop) -> None:
    payments = await two_recharges(shop)
    opened = [await disputed(shop, name, inquiry=True) for name in payments]
    await close(shop, payments[0], opened[0])
    assert await standing(shop) == ("suspended", "inquiry")
    await close(shop, payments[1], opened[1])
    assert await standing(shop) == ("active", None)


async def test_a_purchase_after_a_refund_leaves_an_open_inquiry_paused(shop: Shop) -> None:
    asked, given_back = await two_recharges(shop)
    inquiry = await disputed(shop, asked, inquiry=True)
    await refund(shop, given_back)
    assert await standing(shop) == ("suspended", "refunded")
    await arrive(shop, payment("bought"))
    assert await standing(shop) == ("suspended", "inquiry")
    await close(shop, asked, inquiry)
    assert await standing(shop) == ("active", None)


async def test_an_inquiry_that_opens_while_off_pauses_what_is_turned_on(shop: Shop) -> None:
    name = await recharged(shop)
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.turn_off(connection, shop.owner.id, actor="test", reason=None)
    inquiry = await disputed(shop, name, inquiry=True)
    await shop.agree(replace(TOP, threshold=Decimal(30)))
    await go_on(shop)
    assert await standing(shop) == ("suspended", "inquiry")
    await close(shop, name, inquiry)
    assert await standing(shop) == ("active", None)
