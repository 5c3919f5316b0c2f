"""Subscriptions beside the credits, as the newest event tells."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.signed_events import event
from tests.fixtures.product import event_states, receive

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from worker.drainer import Drainer

_numbers = itertools.count()
VERSIONS = ("2022-11-15", "2024-06-20", "2025-03-31.basil", "2026-08-26.dahlia")


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


def period(version: str) -> dict[str, Any]:
    """Return where a subscription says until when it is paid, as endpoints of a version see it.

    Source: https://docs.stripe.com/changelog/basil/2025-03-31/deprecate-subscription-current-period-start-and-end
    """
    price = {"id": "price_1", "object": "price", "metadata": {}}
    item: dict[str, Any] = {"id": "si_1", "object": "subscription_item", "price": price}
    whole = {"current_period_start": 50, "current_period_end": 7000}
    if version < "2025-03-31":
        plan = {"id": "price_1", "object": "plan"}
        items = {"object": "list", "data": [{**item, "plan": plan}]}
        return {**whole, "items": items, "plan": plan, "object": "subscription"}
    return {"items": {"object": "list", "data": [{**item, **whole}]}, "object": "subscription"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("word", ["created", "updated", "deleted"])
async def test_the_period_is_read_where_each_api_version_has_it(
    pool: Pool, organization: Organization, drainer: Drainer, word: str, version: str
) -> None:
    told = subscription(word, at=1, **period(version))
    versioned = json.dumps({**json.loads(told), "api_version": version}).encode()
    assert await apply(pool, drainer, versioned) == ["applied"]
    row = await pool.fetchrow("SELECT plan, current_period_end FROM subscriptions")
    assert row is not None
    assert (row["plan"], row["current_period_end"].timestamp()) == ("price_1", 7000)


async def test_a_subscription_without_items_has_the_period_of_the_whole(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await apply(pool, drainer, subscription("created", at=1, items=None, current_period_end=7000))
    end = await pool.fetchval("SELECT current_period_end FROM subscriptions")
    assert end.timestamp() == 7000
