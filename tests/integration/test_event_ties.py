"""Two events of one second: Stripe is asked which of them is right, in whatever order they come."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures.product import event_states
from tests.integration.test_event_cards import (
    CUSTOMER,
    apply,
    card,
    cards,
    customer,
    known,
    recharging,
    state,
    the_default,
)
from tests.integration.test_event_subscriptions import subscription

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from tests.fixtures.stripe_answers import StripeAnswers
    from worker.drainer import Drainer

SUBSCRIPTION: dict[str, Any] = {
    "id": "sub_1",
    "object": "subscription",
    "customer": CUSTOMER,
    "metadata": {"organization_id": "acme"},
    "start_date": 50,
    "items": {"data": [{"price": {"id": "price_1"}, "current_period_end": 5000}]},
}
ORDERS = list(itertools.permutations(range(2)))


def method(name: str = "1", last4: str = "4242", **changes: Any) -> dict[str, Any]:
    """Return a card as Stripe has it, in the form of the event of the same name."""
    details = {"brand": "visa", "last4": last4, "exp_month": 12, "exp_year": 2034}
    return {
        "id": f"pm_{name}",
        "object": "payment_method",
        "type": "card",
        "customer": CUSTOMER,
        "card": {**details, "fingerprint": f"fp_{name}"},
        **changes,
    }


@pytest.mark.parametrize("status", ["active", "past_due", "canceled"])
@pytest.mark.parametrize("order", ORDERS)
async def test_a_subscription_that_two_events_of_one_second_tell_is_as_stripe_says(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    order: tuple[int, ...],
    status: str,
) -> None:
    stripe_answers.on_file["sub_1"] = {**SUBSCRIPTION, "status": status}
    bodies = [
        subscription("updated", at=100, status="canceled"),
        subscription("updated", at=100, status="active"),
    ]
    for index in order:
        await apply(pool, asking, bodies[index])
    assert await pool.fetchval("SELECT status FROM subscriptions") == status
    assert stripe_answers.asked == ["/v1/subscriptions/sub_1"]
    await apply(pool, asking, subscription("updated", at=101, status="unpaid"))
    assert await pool.fetchval("SELECT status FROM subscriptions") == "unpaid"
    assert len(stripe_answers.asked) == 1


@pytest.mark.parametrize("order", ORDERS)
async def test_a_card_that_two_events_of_one_second_describe_is_as_stripe_says(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    order: tuple[int, ...],
) -> None:
    await known(pool)
    stripe_answers.on_file["pm_1"] = method(last4="2222")
    bodies = [card(at=100, last4="1111"), card("updated", at=100, last4="2222")]
    for index in order:
        await apply(pool, asking, bodies[index])
    assert [row["last4"] for row in await cards(pool)] == ["2222"]
    assert stripe_answers.asked == ["/v1/payment_methods/pm_1"]
    await apply(pool, asking, card("updated", at=101, last4="3333"))
    assert [row["last4"] for row in await cards(pool)] == ["3333"]
    assert len(stripe_answers.asked) == 1


@pytest.mark.parametrize("order", ORDERS)
async def test_a_default_that_two_events_of_one_second_choose_is_the_one_that_stripe_says(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    order: tuple[int, ...],
) -> None:
    await known(pool)
    await apply(pool, asking, card(name="1"), card(name="2"), card(name="3"))
    chosen = {"default_payment_method": "pm_2"}
    stripe_answers.on_file[CUSTOMER] = {
        "id": CUSTOMER,
        "object": "customer",
        "invoice_settings": chosen,
    }
    bodies = [customer("pm_1", at=100), customer("pm_2", at=100)]
    for index in order:
        await apply(pool, asking, bodies[index])
    assert await the_default(pool) == "pm_2"
    assert stripe_answers.asked == [f"/v1/customers/{CUSTOMER}"]
    await apply(pool, asking, customer("pm_3", at=101))
    assert await the_default(pool) == "pm_3"


async def test_a_customer_that_stripe_has_deleted_meanwhile_is_forgotten(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    await known(pool)
    await recharging(pool, organization)
    await apply(pool, asking, card(name="1"), card(name="2"))
    stripe_answers.on_file[CUSTOMER] = {"id": CUSTOMER, "object": "customer", "deleted": True}
    await apply(pool, asking, customer("pm_1", at=100), customer("pm_2", at=100))
    assert await pool.fetchval("SELECT stripe_customer_id FROM organizations") is None
    assert await state(pool) == ("suspended", "customer_deleted")


async def test_a_default_of_one_second_that_was_never_seen_is_asked_for_too(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    await known(pool)
    await apply(pool, asking, card(name="1"), customer("pm_1", at=100))
    stripe_answers.on_file["pm_2"] = method("2", "2222")
    stripe_answers.on_file[CUSTOMER] = {
        "id": CUSTOMER,
        "object": "customer",
        "invoice_settings": {"default_payment_method": "pm_2"},
    }
    await apply(pool, asking, customer(None, at=100))
    assert await the_default(pool) == "pm_2"
    assert [row["last4"] for row in await cards(pool)] == ["4242", "2222"]
    assert stripe_answers.asked == [f"/v1/customers/{CUSTOMER}", "/v1/payment_methods/pm_2"]


async def test_stripe_is_not_asked_where_two_events_of_one_second_say_the_same(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    await known(pool)
    await apply(pool, asking, card(), card("updated"), customer("pm_1"), customer("pm_1"))
    await apply(pool, asking, subscription("created", at=1), subscription("updated", at=1))
    assert set((await event_states(pool)).values()) == {"applied"}
    assert stripe_answers.asked == []


async def test_a_card_of_one_second_that_stripe_does_not_have_is_off_file(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    await known(pool)
    await apply(pool, asking, card(last4="1111"), card("updated", last4="2222"))
    assert [row["detached_at"] is not None for row in await cards(pool)] == [True]
    assert stripe_answers.asked == ["/v1/payment_methods/pm_1"]


async def test_an_event_waits_while_stripe_does_not_say_which_of_two_is_right(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    stripe_answers.status = 500
    await apply(pool, asking, subscription("created", at=1))
    await apply(pool, asking, subscription("updated", at=1, status="past_due"))
    assert sorted((await event_states(pool)).values()) == ["applied", "retrying"]
    stripe_answers.status = 200
    stripe_answers.on_file["sub_1"] = {**SUBSCRIPTION, "status": "past_due"}
    await pool.execute("UPDATE stripe_events SET available_at = now() WHERE state = 'retrying'")
    await asking.drain()
    assert await pool.fetchval("SELECT status FROM subscriptions") == "past_due"


async def test_what_stripe_does_not_have_any_more_is_left_as_it_was(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    await known(pool)
    await apply(pool, asking, card(), customer("pm_1"), subscription("created", at=100))
    late = [customer(None), subscription("updated", at=100, status="past_due")]
    await apply(pool, asking, *late)
    assert sorted((await event_states(pool)).values()) == ["applied"] * 3 + ["ignored"] * 2
    assert await the_default(pool) == "pm_1"
    assert await pool.fetchval("SELECT status FROM subscriptions") == "active"
