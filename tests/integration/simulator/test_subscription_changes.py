"""Changes of a subscription: prorations with their signs, coupons, tax, a new interval."""

import pytest
import stripe

from tests.fixtures.simulated_subscriptions import change, item_of, latest, middle, price, subscribe
from tests.integration.simulator.conftest import Http
from tests.integration.simulator.test_invoices import customer

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_up_down_and_up_again_bills_and_credits_the_rest_of_the_period(
    client: stripe.StripeClient, small: str, large: str
) -> None:
    owner = customer(client)
    made = subscribe(client, owner, small)
    at = middle(made)
    change(client, made, large, proration_date=at)
    up = latest(client, made.id)
    assert (up.billing_reason, up.total, up.amount_paid) == ("subscription_update", 1000, 1000)
    lines = {line.amount: line for line in up.lines.data}
    assert set(lines) == {-500, 1500}
    for amount, price_id in ((-500, small), (1500, large)):
        line = lines[amount]
        assert line.pricing is not None
        assert line.pricing.price_details is not None
        assert line.pricing.price_details.price == price_id
        assert line.parent is not None
        details = line.parent.subscription_item_details
        assert details is not None
        assert details.proration is True
        assert (line.period.start, line.period.end) == (at, item_of(made).current_period_end)
    change(client, made, small, proration_date=at)
    down = latest(client, made.id)
    assert (down.total, down.amount_due, down.amount_paid) == (-1000, 0, 0)
    assert client.v1.customers.retrieve(owner).balance == -1000
    assert sorted(line.amount for line in down.lines.data) == [-1500, 500]
    change(client, made, large, proration_date=at)
    again = latest(client, made.id)
    assert (again.total, again.amount_due, again.amount_paid) == (1000, 0, 0)
    assert client.v1.customers.retrieve(owner).balance == 0
    paid = client.v1.invoices.list({"subscription": made.id}).data
    assert [invoice.amount_paid for invoice in paid] == [0, 0, 1000, 1000]


async def test_prorations_wait_for_the_next_cycle_unless_told_otherwise(
    client: stripe.StripeClient, http: Http, small: str, large: str
) -> None:
    owner = customer(client)
    made = subscribe(client, owner, small)
    change(client, made, large, proration_behavior="create_prorations", proration_date=middle(made))
    waiting = client.v1.invoice_items.list({"customer": owner}).data
    assert sorted(item.amount for item in waiting) == [-500, 1500]
    assert {item.proration for item in waiting} == {True}
    invoice = await http.sim(f"subscriptions/{made.id}/cycle")
    assert sorted(line["amount"] for line in invoice["lines"]["data"]) == [-500, 1500, 3000]
    assert invoice["amount_paid"] == 4000


async def test_a_change_without_prorations_bills_nothing(
    client: stripe.StripeClient, small: str, large: str
) -> None:
    made = subscribe(client, customer(client), small)
    changed = change(client, made, large, proration_behavior="none", proration_date=middle(made))
    assert changed.latest_invoice == made.latest_invoice
    assert item_of(changed).price.id == large


async def test_a_credit_is_worth_what_was_paid_with_a_coupon(
    client: stripe.StripeClient, small: str, large: str
) -> None:
    coupon = client.v1.coupons.create({"percent_off": 50, "duration": "once"}).id
    made = subscribe(client, customer(client), small, discounts=[{"coupon": coupon}])
    first = latest(client, made.id)
    assert (first.subtotal, first.total, first.amount_paid) == (1000, 500, 500)
    assert client.v1.coupons.retrieve(coupon).times_redeemed == 1
    change(client, made, large, proration_date=middle(made))
    up = latest(client, made.id)
    assert sorted(line.amount for line in up.lines.data) == [-250, 1500]


async def test_another_interval_begins_a_new_period_at_once(
    client: stripe.StripeClient, small: str
) -> None:
    yearly = price(client, 10_000, "Year", "3000", interval="year")
    made = subscribe(client, customer(client), small)
    at = middle(made)
    changed = change(
        client, made, yearly, proration_date=at, proration_behavior="create_prorations"
    )
    assert item_of(changed).current_period_start == at
    assert sorted(line.amount for line in latest(client, made.id).lines.data) == [-500, 10_000]


async def test_a_quantity_and_a_second_item_are_prorated(
    client: stripe.StripeClient, small: str, large: str
) -> None:
    made = subscribe(client, customer(client), small)
    at = middle(made)
    client.v1.subscription_items.update(
        item_of(made).id,
        {"quantity": 3, "proration_behavior": "always_invoice", "proration_date": at},
    )
    assert sorted(line.amount for line in latest(client, made.id).lines.data) == [-500, 1500]
    added = client.v1.subscription_items.create(
        {
            "subscription": made.id,
            "price": large,
            "proration_behavior": "always_invoice",
            "proration_date": at,
        }
    )
    assert [line.amount for line in latest(client, made.id).lines.data] == [1500]
    client.v1.subscription_items.delete(
        added.id, {"proration_behavior": "always_invoice", "proration_date": at}
    )
    assert [line.amount for line in latest(client, made.id).lines.data] == [-1500]
    items = client.v1.subscription_items.list({"subscription": made.id}).data
    assert [item.quantity for item in items] == [3]


async def test_tax_is_on_the_invoice_and_on_its_prorations(
    client: stripe.StripeClient, small: str, large: str
) -> None:
    rate = client.v1.tax_rates.create({"display_name": "VAT", "percentage": 20, "inclusive": False})
    made = subscribe(client, customer(client), small, default_tax_rates=[rate.id])
    first = latest(client, made.id)
    assert (first.subtotal, first.total, first.amount_paid) == (1000, 1200, 1200)
    change(client, made, large, proration_date=middle(made))
    up = latest(client, made.id)
    assert (up.subtotal, up.total, up.total_excluding_tax) == (1000, 1200, 1000)
