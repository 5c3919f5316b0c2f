"""Which price usage has that is posted late, or whose price has gone since the first request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio

from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient, in_hours
from tests.fixtures.pricing import BOOK, activate_book, add_book

USAGE, HOLDS = "/v1/billing/acme/usage", "/v1/billing/acme/holds"
IMAGES: dict[str, Any] = {"meter": "images", "measures": {"images": 25}}
ACTIVATED = """
    INSERT INTO price_book_activations (name, version, active_from, created_at, created_by)
    VALUES ('default', $1, $2, $2, 'tests')
"""
WITHOUT = BOOK.replace('"images"', '"pictures"')


def book(price: str) -> str:
    return BOOK.replace("0.04", price)


def from_now(hours: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


@pytest_asyncio.fixture
async def rich(api_client: ApiClient, organization: Organization) -> ApiClient:
    """Give the organization 100 credits, and 25 images the price of 1, later 2, now 3 credits."""
    made = await api_client.post("/v1/billing/acme/grants", {"amount": 100})
    assert made.status == 200
    async with api_client.pool.acquire() as connection:
        for hours, price in ((-48, "0.04"), (-3, "0.08"), (-0.5, "0.12")):
            version = await add_book(connection, book(price))
            await connection.execute(ACTIVATED, version, from_now(hours))
    return api_client


def used(transaction_id: str, hours: float) -> dict[str, Any]:
    """Return usage that happened some hours from now."""
    return IMAGES | {"transactionId": transaction_id, "effectiveOn": from_now(hours).isoformat()}


async def test_usage_has_the_price_of_its_moment_within_an_hour(
    rich: ApiClient, organization: Organization
) -> None:
    limited = await rich.make_key("usage", organization)
    for number, (hours, total) in enumerate(((-0.25, 3), (-0.75, 2), (-5, 2))):
        answer = await limited.post(USAGE, used(f"c-{number}", hours))
        assert (answer.json["price"]["total"], hours) == (total, hours)
        (result,) = (
            await limited.post(f"{USAGE}/batch", {"usage": [used(f"b-{number}", hours)]})
        ).json["results"]
        assert (result["price"]["total"], hours) == (total, hours)
    hold = (await rich.post(HOLDS, {"amount": 5})).json
    capture = await limited.post(f"{HOLDS}/{hold['id']}/capture", used("c-9", -5))
    assert capture.json["captureAmount"] == 2


async def test_a_key_that_may_grant_credits_may_choose_an_older_price(
    rich: ApiClient, organization: Organization
) -> None:
    granting = await rich.make_key("usage,grants", organization)
    answer = await granting.post(USAGE, used("c-1", -5))
    assert answer.json["price"]["total"] == 1


async def test_usage_never_has_a_price_that_is_to_come(rich: ApiClient) -> None:
    await activate_book(rich.pool, book("0.01"), active_from=from_now(0.25))
    answer = await rich.post(USAGE, used("c-1", 0.5))
    assert answer.json["price"]["total"] == 3


async def test_late_usage_that_is_repeated_even_later_has_its_first_price(
    rich: ApiClient, organization: Organization
) -> None:
    limited = await rich.make_key("usage", organization)
    body = used("c-1", -0.75)
    first = await limited.post(USAGE, body)
    async with in_hours(rich, 2) as later:
        again = await later.with_key(limited.key).post(USAGE, body)
    assert (again.json, again.headers["Idempotent-Replayed"]) == (first.json, "true")


async def test_a_hold_by_estimate_is_repeated_when_its_meter_has_no_price_any_more(
    rich: ApiClient,
) -> None:
    body = IMAGES | {"transactionId": "h-1"}
    hold = (await rich.post(HOLDS, body)).json
    for hours, text in ((20, WITHOUT), (30, book("0"))):
        await activate_book(rich.pool, text, active_from=from_now(hours))
    for hours in (25, 35):
        async with in_hours(rich, hours) as later:
            again = await later.post(HOLDS, body)
            assert (again.json, again.headers["Idempotent-Replayed"]) == (hold, "true")
            for change in ({"transactionId": "h-2"}, {"userId": "jo"}):
                refused = await later.post(HOLDS, body | change)
                assert (refused.status, refused.json["type"]) == (422, "validation_error")


async def test_an_id_that_no_row_can_have_is_refused_where_there_is_no_price(
    rich: ApiClient,
) -> None:
    for wrong in ("a\0b", "a" * 256):
        for path in (USAGE, HOLDS):
            body = IMAGES | {"meter": "fax", "transactionId": wrong}
            refused = await rich.post(path, body)
            assert (refused.status, refused.json["type"]) == (422, "validation_error")
