"""Subscriptions beside the credits, and invoices that say that they bring some."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.signed_events import event
from tests.fixtures.product import balance, event_states, payment, receive, transactions

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from worker.drainer import Drainer

_numbers = itertools.count()


def subscription(word: str, *, at: int, status: str = "active", **changes: Any) -> bytes:
    told = {
        "id": "sub_1",
        "customer": "cus_1",
        "status": status,
        "metadata": {"organization_id": "acme"},
        "start_date": 50,
        "items": {"data": [{"price": {"id": "price_1"}, "current_period_end": 5000}]},
        **changes,
    }
    return event(f"{next(_numbers)}", f"customer.subscription.{word}", told, created=at)


def invoice(word: str = "paid", **changes: Any) -> bytes:
    told = {
        "id": "in_1",
        "customer": "cus_1",
        "amount_paid": 2000,
        "currency": "usd",
        "metadata": {"organization_id": "acme", "prepaid_credits": "250"},
        "parent": {"subscription_details": {"subscription": "sub_1"}},
        "lines": {"data": []},
        **changes,
    }
    return event(f"{next(_numbers)}", f"invoice.{word}", told)


async def apply(pool: Pool, drainer: Drainer, *bodies: bytes) -> list[str]:
    await receive(pool, *bodies)
    await drainer.drain()
    return list((await event_states(pool)).values())


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_a_subscription_is_as_the_newest_event_tells(
    pool: Pool, organization: Organization, drainer: Drainer, order: tuple[int, ...]
) -> None:
    bodies = [
        subscription("created", at=100, status="incomplete"),
        subscription("updated", at=200),
        subscription("deleted", at=300, status="canceled", ended_at=300),
    ]
    for index in order:
        await apply(pool, drainer, bodies[index], bodies[index])
    row = await pool.fetchrow("SELECT * FROM subscriptions")
    assert row is not None
    assert (row["status"], row["plan"], row["organization_id"]) == (
        "canceled",
        "price_1",
        organization.id,
    )
    assert [row[name].timestamp() for name in ("started_at", "ends_at", "current_period_end")] == [
        50,
        300,
        5000,
    ]


async def test_the_period_is_read_where_older_versions_have_it(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, subscription("created", at=1, items=None, current_period_end=7000))
    end = await pool.fetchval("SELECT current_period_end FROM subscriptions")
    assert end.timestamp() == 7000


async def test_an_invoice_that_says_credits_brings_them_once(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    assert await apply(pool, drainer, invoice(), invoice()) == ["applied", "applied"]
    (row,) = await transactions(pool)
    assert (row["type"], row["amount"], row["idempotency_key"]) == (
        "purchase",
        250,
        "stripe-invoice:in_1",
    )


async def test_prices_say_credits_for_each_of_their_quantity(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    price = {"id": "price_1", "metadata": {"prepaid_credits": "12.5"}}
    lines = {"data": [{"amount": 500, "quantity": 3, "price": price}, {"amount": -9}]}
    changes: dict[str, Any] = {
        "metadata": {"organization_id": "acme"},
        "lines": lines,
        "parent": None,
    }
    await apply(pool, drainer, invoice(**changes, subscription="sub_1"))
    assert await balance(pool) == 37.5


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"organization_id": "acme"}},
        {"amount_paid": 0},
        {"parent": None},
    ],
)
async def test_an_invoice_that_says_no_credits_or_is_for_nothing_brings_none(
    pool: Pool, organization: Organization, drainer: Drainer, changes: dict[str, Any]
) -> None:
    assert await apply(pool, drainer, invoice(**changes)) == ["ignored"]
    assert await transactions(pool) == []


@pytest.mark.parametrize("said", ["-5", "0", "many", "1e9", "", 5, "0.0000000001", "٣"])
async def test_credits_that_are_no_amount_are_refused(
    pool: Pool, organization: Organization, drainer: Drainer, said: Any
) -> None:
    metadata = {"organization_id": "acme", "prepaid_credits": said}
    assert await apply(pool, drainer, invoice(metadata=metadata)) == ["dead"]


@pytest.mark.parametrize("word", ["payment_failed", "payment_action_required", "voided"])
async def test_an_invoice_that_is_not_paid_changes_nothing(
    pool: Pool, organization: Organization, drainer: Drainer, word: str
) -> None:
    assert await apply(pool, drainer, invoice(word)) == ["ignored"]


async def test_the_payment_of_an_invoice_is_no_purchase(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    assert await apply(pool, drainer, payment("1", invoice="in_1")) == ["ignored"]
    assert await transactions(pool) == []
