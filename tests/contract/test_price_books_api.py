"""/v1/price-books."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures.api import ApiClient

if TYPE_CHECKING:
    from shared.organizations.model import Organization

BOOKS = "/v1/price-books"


def book(**changes: Any) -> dict[str, Any]:
    price = {"models": ["gpt-4o"], "measures": {"input_tokens": "2.50 / 1M"}}
    return {"name": "default", "prices": [price], **changes}


async def test_a_book_is_stored_activated_listed_and_read(api_client: ApiClient) -> None:
    stored = await api_client.post(BOOKS, book())
    assert (stored.status, stored.json["version"], stored.json["activeFrom"]) == (201, 1, [])
    again = await api_client.post(BOOKS, book())
    assert again.json == stored.json
    active = await api_client.post(f"{BOOKS}/default/versions/1/activate", {})
    assert active.status == 200
    assert datetime.fromisoformat(active.json["activeFrom"]) <= datetime.now(UTC)
    second = await api_client.post(BOOKS, book(markup="20%"))
    later = await api_client.post(f"{BOOKS}/default/versions/2/activate", {})
    assert datetime.fromisoformat(later.json["activeFrom"]) > datetime.now(UTC)
    first_page = (await api_client.get(BOOKS, limit=1)).json
    assert first_page["data"] == [{**second.json, "activeFrom": [later.json["activeFrom"]]}]
    rest = (await api_client.get(BOOKS, cursor=first_page["nextCursor"])).json
    assert [row["version"] for row in rest["data"]] == [1]
    read = (await api_client.get(f"{BOOKS}/default/versions/2")).json
    assert read["book"]["markup"] == "20%"
    assert read["book"]["prices"][0]["measures"] == {"input_tokens": "2.5 / 1M"}


async def test_every_problem_of_a_book_is_answered_with_its_place(api_client: ApiClient) -> None:
    tiers = [{"to": 10, "price": "1"}, {"over": 11, "price": "1"}]
    price = {"models": ["m"], "measures": {"a": "NaN", "b": {"tiers": tiers}}}
    refused = await api_client.post(BOOKS, book(prices=[price], markup="-1%"))
    assert refused.status == 422
    assert [error["loc"] for error in refused.json["errors"]] == [
        ["body", "markup"],
        ["body", "prices", 0, "measures", "a"],
        ["body", "prices", 0, "measures", "b", "tiers", 1],
    ]


@pytest.mark.parametrize("price", [2.5, 1e400, None, {"tiers": []}, "1e400"])
async def test_a_price_is_text(api_client: ApiClient, price: Any) -> None:
    prices = [{"models": ["m"], "measures": {"images": price}}]
    assert (await api_client.post(BOOKS, book(prices=prices))).status in {400, 422}


async def test_a_version_is_not_activated_in_the_past(api_client: ApiClient) -> None:
    await api_client.post(BOOKS, book())
    path = f"{BOOKS}/default/versions/1/activate"
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    refused = await api_client.post(path, {"activeFrom": yesterday})
    assert refused.status == 422
    assert refused.json["errors"][0]["loc"] == ["body", "activeFrom"]
    assert (await api_client.post(f"{BOOKS}/default/versions/9/activate", {})).status == 404


async def test_a_key_of_one_organization_sees_no_books(
    api_client: ApiClient, organization: Organization
) -> None:
    await api_client.post(BOOKS, book())
    bound = await api_client.make_key("admin", organization)
    assert (await bound.get(BOOKS)).status == 403
    assert (await bound.post(BOOKS, book())).status == 403
