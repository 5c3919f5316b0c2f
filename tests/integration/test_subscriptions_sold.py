"""A subscription that changes its plan any number of times never brings more than was paid for."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from shared.payments.customers import bind_customers
from tests.fixtures.product import balance, transactions
from tests.fixtures.storefront import Storefront

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

# What a period costs in cents, and the credits that it brings: 0.25 credits a cent at the most.
PLANS = {"small": (1000, 250), "middle": (2000, 400), "large": (3000, 750)}
CREDITS_PER_CENT_MAX = Decimal("0.25")


async def subscribe(
    storefront: Storefront, organization: Organization
) -> tuple[Any, dict[str, str]]:
    """Subscribe the organization's customer to the small plan; return it and the prices."""
    v1 = storefront.client.v1
    customer = (await v1.customers.create_async({"name": "Acme"})).id
    method = await v1.payment_methods.attach_async("pm_card_visa", {"customer": customer})
    await v1.customers.update_async(
        customer, {"invoice_settings": {"default_payment_method": method.id}}
    )
    async with storefront.pool.acquire() as connection, connection.transaction():
        await bind_customers(connection, {organization.id: customer})
    prices = {}
    for name, (cents, credits_) in PLANS.items():
        params: Any = {
            "currency": "usd",
            "unit_amount": cents,
            "recurring": {"interval": "month"},
            "product_data": {"name": name},
            "metadata": {"prepaid_credits": str(credits_)},
        }
        prices[name] = (await v1.prices.create_async(params)).id
    made = await v1.subscriptions.create_async(
        {"customer": customer, "items": [{"price": prices["small"]}]}
    )
    await storefront.deliver_new()
    return made, prices


async def change(storefront: Storefront, made: Any, price: str, at: int) -> None:
    item = (await storefront.client.v1.subscriptions.retrieve_async(made.id)).to_dict()
    params: Any = {
        "items": [{"id": item["items"]["data"][0]["id"], "price": price}],
        "proration_behavior": "always_invoice",
        "proration_date": at,
    }
    await storefront.client.v1.subscriptions.update_async(made.id, params)


def middle(made: Any) -> int:
    item = made.to_dict()["items"]["data"][0]
    return int(item["current_period_start"] + item["current_period_end"]) // 2


async def paid_cents(storefront: Storefront, made: Any) -> int:
    listed = await storefront.client.v1.invoices.list_async({"subscription": made.id, "limit": 100})
    return sum(invoice.amount_paid for invoice in listed.data)


async def test_up_down_and_up_again_brings_what_the_share_of_the_period_is_worth(
    pool: Pool, organization: Organization, storefront: Storefront
) -> None:
    made, prices = await subscribe(storefront, organization)
    assert await balance(pool) == 250
    for plan, expected in (("large", 500), ("small", 250), ("large", 500), ("small", 250)):
        await change(storefront, made, prices[plan], middle(made))
        await storefront.deliver_new()
        assert await balance(pool) == expected
    await storefront.replay_all()
    assert await balance(pool) == 250


@pytest.mark.parametrize("seed", range(3))
async def test_any_row_of_changes_in_any_order_of_events_brings_no_more_than_was_paid_for(
    pool: Pool, organization: Organization, storefront: Storefront, seed: int
) -> None:
    random = Random(seed)  # noqa: S311 - no secret
    made, prices = await subscribe(storefront, organization)
    item = made.to_dict()["items"]["data"][0]
    span = item["current_period_end"] - item["current_period_start"]
    moments = sorted(random.sample(range(1, 90), 6))
    plan = "small"
    for share in moments:
        plan = random.choice([name for name in PLANS if name != plan])
        at = item["current_period_start"] + span * share // 100
        await change(storefront, made, prices[plan], at)
    bodies: list[bytes] = []
    while new := await storefront.events():
        bodies += new
    bodies += random.sample(bodies, len(bodies) // 3)
    random.shuffle(bodies)
    for start in range(0, len(bodies), 4):
        await storefront.deliver(*bodies[start : start + 4])
    await storefront.replay_all()
    rows = await transactions(pool)
    assert sum(row["amount"] for row in rows) == await balance(pool)
    limit = await paid_cents(storefront, made) * CREDITS_PER_CENT_MAX
    assert await balance(pool) <= limit
    settled = await pool.fetchval(
        "SELECT count(*) FROM stripe_events WHERE state NOT IN ('applied', 'ignored')"
    )
    assert settled == 0
