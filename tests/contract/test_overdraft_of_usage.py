"""Priced usage and captures beyond the overdraft limit: they need the scope `grants`."""

from __future__ import annotations

from typing import Any

import pytest_asyncio

from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.pricing import activate_book

USAGE, HOLDS = "/v1/billing/acme/usage", "/v1/billing/acme/holds"
IMAGES: dict[str, Any] = {"meter": "images", "measures": {"images": 500}}  # 20 credits
OVER = IMAGES | {"onInsufficient": "overdraft"}


@pytest_asyncio.fixture
async def poor(api_client: ApiClient, organization: Organization) -> ApiClient:
    """Give the organization 10 credits and a price book."""
    made = await api_client.post("/v1/billing/acme/grants", {"amount": 10})
    assert made.status == 200
    await activate_book(api_client.pool)
    return api_client


async def test_priced_usage_beyond_the_limit_needs_the_scope_grants(
    poor: ApiClient, organization: Organization
) -> None:
    limited = await poor.make_key("usage", organization)
    granting = await poor.make_key("usage,grants", organization)
    hold = (await poor.post(HOLDS, {"amount": 5})).json
    capture = {"amount": 20, "onInsufficient": "overdraft", "transactionId": "c-3"}
    requests = (
        (USAGE, OVER | {"transactionId": "c-1"}),
        (USAGE, OVER | {"transactionId": "c-2", "holdId": hold["id"], "final": False}),
        (f"{HOLDS}/{hold['id']}/capture", capture),
    )
    for path, body in requests:
        refused = await limited.post(path, body)
        assert (refused.status, refused.json["type"]) == (403, "permission_error"), path
    items = [body | {"transactionId": f"b-{n}"} for n, (_, body) in enumerate(requests[:2])]
    for item in (await limited.post(f"{USAGE}/batch", {"usage": items})).json["results"]:
        assert (item["status"], item["error"]["type"]) == ("insufficient", "permission_error")
    for path, body in requests:
        assert (await granting.post(path, body)).status == 200, path


async def test_an_item_of_a_batch_has_an_id_of_its_own_and_not_the_header(
    poor: ApiClient,
) -> None:
    answer = await poor.post(f"{USAGE}/batch", {"usage": [IMAGES, IMAGES]}, idempotency_key="k")
    for place, result in enumerate(answer.json["results"]):
        (error,) = result["error"]["errors"]
        assert error["loc"] == ["body", "usage", place, "transactionId"]
