"""Usage that costs nothing, over HTTP: it has no row, and leaves order and ids as they are."""

from __future__ import annotations

from typing import Any

import pytest_asyncio

from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.pricing import BOOK, activate_book

USAGE, HOLDS = "/v1/billing/acme/usage", "/v1/billing/acme/holds"
FREE = BOOK + '\n[[prices]]\nmeters = ["pings"]\n[prices.measures]\npings = "0"\n'
PINGS: dict[str, Any] = {"meter": "pings", "measures": {"pings": 3}}
IMAGES: dict[str, Any] = {"meter": "images", "measures": {"images": 25}}  # 1 credit


@pytest_asyncio.fixture
async def rich(api_client: ApiClient, organization: Organization) -> ApiClient:
    """Give the organization 100 credits and a price book with a free meter."""
    made = await api_client.post("/v1/billing/acme/grants", {"amount": 100})
    assert made.status == 200
    await activate_book(api_client.pool, FREE)
    return api_client


async def test_a_batch_captures_from_a_hold_before_free_usage_closes_it(rich: ApiClient) -> None:
    hold = (await rich.post(HOLDS, {"amount": 5})).json
    part = IMAGES | {"holdId": hold["id"], "final": False}
    items = [
        part | {"transactionId": "f-1"},
        PINGS | {"transactionId": "f-2", "holdId": hold["id"]},
        part | {"transactionId": "f-3"},
        IMAGES | {"transactionId": "f-4"},
    ]
    results = (await rich.post(f"{USAGE}/batch", {"usage": items})).json["results"]
    statuses = [result["status"] for result in results]
    assert statuses == ["posted", "posted", "hold_closed", "posted"]
    closed = (await rich.get(f"{HOLDS}/{hold['id']}")).json
    assert (closed["status"], closed["capturedAmount"]) == ("captured", 1)


async def test_an_id_of_charged_usage_is_a_conflict_for_free_usage(rich: ApiClient) -> None:
    posted = await rich.post(USAGE, IMAGES | {"transactionId": "f-1"})
    assert posted.status == 200, posted.json
    hold = (await rich.post(HOLDS, {"amount": 5})).json
    free = PINGS | {"transactionId": "f-1"}
    of_hold = free | {"holdId": hold["id"]}
    capture = f"{HOLDS}/{hold['id']}/capture"
    for path, body in ((USAGE, free), (USAGE, of_hold), (capture, free)):
        refused = await rich.post(path, body)
        assert (refused.status, refused.json["type"]) == (409, "idempotency_error")
    (result,) = (await rich.post(f"{USAGE}/batch", {"usage": [free]})).json["results"]
    assert (result["status"], result["error"]["code"]) == ("conflict", 409)
    assert (await rich.get(f"{HOLDS}/{hold['id']}")).json["status"] == "active"


async def test_an_id_of_charged_usage_is_a_conflict_for_a_capture_of_zero(rich: ApiClient) -> None:
    await rich.post(USAGE, IMAGES | {"transactionId": "f-1"})
    hold = (await rich.post(HOLDS, {"amount": 5})).json
    capture = f"{HOLDS}/{hold['id']}/capture"
    refused = await rich.post(capture, {"amount": 0, "transactionId": "f-1"})
    assert (refused.status, refused.json["type"]) == (409, "idempotency_error")
    assert (await rich.get(f"{HOLDS}/{hold['id']}")).json["status"] == "active"
    closed = [await rich.post(capture, {"amount": 0, "transactionId": "f-2"}) for _ in range(2)]
    assert closed[0].json == closed[1].json
