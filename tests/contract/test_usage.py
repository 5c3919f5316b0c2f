"""Priced usage over HTTP: posted once at its price, quoted, and captured from holds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient, in_hours
from tests.fixtures.pricing import BOOK, activate_book

USAGE = "/v1/billing/acme/usage"
HOLDS = "/v1/billing/acme/holds"
CALL: dict[str, Any] = {
    "model": "gpt-4o",
    "measures": {
        "input_tokens": 1_000_000,
        "cached_input_tokens": 200_000,
        "output_tokens": 50_000,
    },
}
CALL_COST = 2.75  # 0.8 M at 2.50, 0.2 M at 1.25, 0.05 M at 10
FREE = BOOK + '\n[[prices]]\nmeters = ["pings"]\n[prices.measures]\npings = "0"\n'


@pytest_asyncio.fixture
async def rich(api_client: ApiClient, organization: Organization) -> ApiClient:
    """Give the organization 100 credits and a price book."""
    made = await api_client.post("/v1/billing/acme/grants", {"amount": 100})
    assert made.status == 200
    await activate_book(api_client.pool)
    return api_client


async def rows(client: ApiClient) -> int:
    count: int = await client.pool.fetchval(
        "SELECT count(*) FROM credit_transactions WHERE amount < 0"
    )
    return count


async def test_usage_is_posted_at_its_price_and_the_row_keeps_how_it_arose(
    rich: ApiClient,
) -> None:
    asked = CALL | {"transactionId": "c-1", "userId": "jo", "category": "chat", "tags": ["a"]}
    posted = await rich.post(USAGE, asked | {"metadata": {"run": 7}})
    assert posted.status == 200, posted.json
    row, price = posted.json["transaction"], posted.json["price"]
    assert (row["amount"], row["balanceAfter"], row["type"]) == (-CALL_COST, 97.25, "usage")
    assert (row["userId"], row["category"], row["tags"]) == ("jo", "chat", ["a"])
    assert (row["metadata"], row["modelCosts"]) == ({"run": 7}, ["default:1:gpt-4o"])
    assert (price["book"], price["version"], price["model"]) == ("default", 1, "gpt-4o")
    assert (price["measures"], price["total"]) == (CALL["measures"], CALL_COST)
    amounts = {line["measure"]: line["amount"] for line in price["lines"]}
    assert amounts == {"input_tokens": 2, "cached_input_tokens": 0.25, "output_tokens": 0.5}
    stored = await rich.pool.fetchval(
        "SELECT metadata -> 'prepaid:pricing' FROM credit_transactions WHERE amount < 0"
    )
    assert (stored["version"], stored["total"]) == (1, "2.75")
    assert (await rich.get(f"/api/credit-transactions/{row['id']}")).json == row


@pytest.mark.parametrize(
    ("change", "location"),
    [
        ({"model": "gpt-9"}, ["model"]),
        ({"model": None, "meter": "fax"}, ["meter"]),
        ({"model": None}, ["model"]),
        ({"meter": "images"}, ["model"]),
        ({"measures": {"input_tokens": 1, "smell": 2}}, ["measures", "smell"]),
        ({"measures": {"input_tokens": 1.5}}, ["measures", "input_tokens"]),
        ({"measures": {"input_tokens": -1}}, ["measures", "input_tokens"]),
        ({"measures": {"input_tokens": 10**18}}, ["measures", "input_tokens"]),
        ({"measures": {"input_tokens": "7"}}, ["measures", "input_tokens"]),
        ({"measures": {}}, ["measures"]),
        ({"measures": {f"m{n}": 1 for n in range(33)}}, ["measures"]),
        ({"transactionId": None}, ["transactionId"]),
        ({"transactionId": "hold:x"}, ["transactionId"]),
        ({"final": False}, ["final"]),
        ({"effectiveOn": "2026-01-31T09:30:00"}, ["effectiveOn"]),
        ({"effectiveOn": "2040-01-31T09:30:00Z"}, ["effectiveOn"]),
        ({"metadata": {"prepaid:pricing": {}}}, ["metadata"]),
    ],
)
async def test_usage_without_a_price_is_refused_with_its_location_and_never_free(
    rich: ApiClient, change: dict[str, Any], location: list[str]
) -> None:
    answer = await rich.post(USAGE, CALL | {"transactionId": "c-1"} | change)
    assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["body", *location])
    assert await rows(rich) == 0


async def test_usage_without_a_price_book_is_refused(
    api_client: ApiClient, organization: Organization
) -> None:
    answer = await api_client.post(USAGE, CALL | {"transactionId": "c-1"})
    assert (answer.status, answer.json["errors"][0]["type"]) == (422, "no_price_book")


async def test_a_repeated_request_has_the_first_price_whatever_the_book_says_now(
    rich: ApiClient,
) -> None:
    asked = CALL | {"transactionId": "c-1"}
    first = await rich.post(USAGE, asked)
    for hours, text in ((1, BOOK.replace("2.50", "5")), (3, BOOK.replace("gpt-4o", "gpt-5"))):
        moment = datetime.now(UTC) + timedelta(hours=hours)
        await activate_book(rich.pool, text, active_from=moment)
    async with in_hours(rich, 2) as later:
        repeated = await later.post(USAGE, asked)
        assert (repeated.json, repeated.headers["Idempotent-Replayed"]) == (first.json, "true")
        dearer = await later.post(USAGE, asked | {"transactionId": "c-2"})
        assert (dearer.json["price"]["version"], dearer.json["price"]["total"]) == (2, 4.75)
        (result,) = (await later.post(f"{USAGE}/batch", {"usage": [asked]})).json["results"]
        assert (result["status"], result["price"]) == ("replayed", first.json["price"])
        assert result["transaction"] == first.json["transaction"]
    async with in_hours(rich, 4) as later:
        repeated = await later.post(USAGE, asked)
        assert (repeated.json, repeated.headers["Idempotent-Replayed"]) == (first.json, "true")
        assert (await later.post(USAGE, asked | {"transactionId": "c-3"})).status == 422
        (result,) = (await later.post(f"{USAGE}/batch", {"usage": [asked]})).json["results"]
        assert (result["status"], result["price"]) == ("replayed", first.json["price"])
    assert await rows(rich) == 2


async def test_other_usage_under_an_id_is_a_conflict(rich: ApiClient) -> None:
    asked = CALL | {"transactionId": "c-1"}
    await rich.post(USAGE, asked)
    for change in ({"measures": {"input_tokens": 2}}, {"userId": "jo"}, {"tags": ["a"]}):
        answer = await rich.post(USAGE, asked | change)
        assert (answer.status, answer.json["type"]) == (409, "idempotency_error")
    debit = {"organizationId": "acme", "amount": -CALL_COST, "transactionId": "c-1"}
    assert (await rich.post("/api/credit-transactions", debit)).status == 409
    keyed = [await rich.post(USAGE, CALL, idempotency_key="k") for _ in range(2)]
    assert keyed[0].json == keyed[1].json
    assert await rows(rich) == 2


async def test_usage_that_the_credits_do_not_cover_is_refused_unless_it_has_happened(
    rich: ApiClient,
) -> None:
    asked = CALL | {"measures": {"output_tokens": 20_000_000}, "transactionId": "c-1"}
    refused = await rich.post(USAGE, asked)
    assert (refused.status, refused.json["required"], refused.json["available"]) == (402, 200, 100)
    posted = await rich.post(USAGE, asked | {"onInsufficient": "overdraft"})
    assert posted.json["transaction"]["balanceAfter"] == -100


async def test_usage_that_costs_nothing_has_no_row(
    api_client: ApiClient, organization: Organization
) -> None:
    rich = api_client
    await rich.post("/v1/billing/acme/grants", {"amount": 100})
    await activate_book(rich.pool, FREE)
    asked = {"meter": "pings", "measures": {"pings": 3}, "transactionId": "p-1"}
    answer = await rich.post(USAGE, asked)
    assert (answer.status, answer.json["transaction"]) == (200, None)
    assert answer.json["price"]["total"] == 0
    hold = (await rich.post(HOLDS, {"amount": 4})).json
    closed = await rich.post(USAGE, asked | {"holdId": hold["id"]})
    assert closed.json["hold"]["status"] == "captured"
    late = await rich.post(f"{HOLDS}/{hold['id']}/extend", {"expiresInSeconds": 60})
    assert late.status == 409
    assert await rows(rich) == 0


async def test_a_hold_by_estimate_is_captured_by_what_was_used(rich: ApiClient) -> None:
    estimate = {"input_tokens": 100_000, "output_tokens": 400_000}
    asked = {"model": "gpt-4o", "measures": estimate, "transactionId": "c-1", "userId": "jo"}
    hold = (await rich.post(HOLDS, asked)).json
    assert (hold["amount"], hold["price"]["total"], hold["price"]["version"]) == (4.25, 4.25, 1)
    again = await rich.post(HOLDS, asked)
    assert (again.json, again.headers["Idempotent-Replayed"]) == (hold, "true")
    part = {"measures": {"output_tokens": 100_000}, "transactionId": "c-1/1", "final": False}
    first = (await rich.post(f"{HOLDS}/{hold['id']}/capture", part)).json
    assert (first["captureAmount"], first["remaining"]) == (1, 3.25)
    repeated = await rich.post(f"{HOLDS}/{hold['id']}/capture", part)
    assert (repeated.json, repeated.headers["Idempotent-Replayed"]) == (first, "true")
    rest = {"measures": {"output_tokens": 50_000}, "transactionId": "c-1/2", "holdId": hold["id"]}
    last = (await rich.post(USAGE, rest)).json
    assert (last["transaction"]["amount"], last["transaction"]["userId"]) == (-0.5, "jo")
    assert (last["hold"]["status"], last["hold"]["capturedAmount"]) == ("captured", 1.5)
    late = await rich.post(USAGE, rest | {"transactionId": "c-1/3"})
    assert (late.status, last["transaction"]["id"] in late.json["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (HOLDS, {"amount": 1, "model": "gpt-4o", "measures": {"input_tokens": 1}}),
        (HOLDS, {"model": "gpt-9", "measures": {"input_tokens": 1}}),
        (HOLDS, {"model": "gpt-4o", "measures": {"input_tokens": 0}}),
        (HOLDS, {"model": "gpt-4o"}),
        ("capture", {"amount": 1, "measures": {"input_tokens": 1}}),
        ("capture", {"measures": {"input_tokens": 1}}),
        ("capture", {"amount": 1, "model": "gpt-4o"}),
    ],
)
async def test_an_estimate_that_cannot_be_is_refused(
    rich: ApiClient, path: str, body: dict[str, Any]
) -> None:
    hold = (await rich.post(HOLDS, {"amount": 5})).json
    answer = await rich.post(f"{HOLDS}/{hold['id']}/capture" if path == "capture" else path, body)
    assert (answer.status, answer.json["type"]) == (422, "validation_error")


async def test_usage_beyond_its_hold_is_taken_from_the_balance(rich: ApiClient) -> None:
    hold = (await rich.post(HOLDS, {"amount": 90})).json
    asked = CALL | {"holdId": hold["id"], "transactionId": "c-1"}
    most = {"measures": {"output_tokens": 9_500_000}}
    posted = (await rich.post(USAGE, asked | most)).json
    assert (posted["transaction"]["amount"], posted["transaction"]["balanceAfter"]) == (-95, 5)
    other = (await rich.post(HOLDS, {"amount": 1})).json
    over = asked | {"holdId": other["id"], "transactionId": "c-2"} | most
    assert (await rich.post(USAGE, over)).status == 402
    done = await rich.post(USAGE, over | {"onInsufficient": "overdraft"})
    assert done.json["transaction"]["balanceAfter"] == -90
    unknown = asked | {"holdId": "00000000-0000-0000-0000-000000000000"}
    assert (await rich.post(USAGE, unknown)).status == 404


async def test_a_batch_prices_and_posts_each_item_on_its_own(rich: ApiClient) -> None:
    hold = (await rich.post(HOLDS, {"amount": 5})).json
    await rich.post(USAGE, CALL | {"transactionId": "b-0"})
    items = [
        CALL | {"transactionId": "b-0"},
        CALL | {"transactionId": "b-1"},
        CALL | {"transactionId": "b-1"},
        CALL | {"transactionId": "b-2", "model": "gpt-9"},
        {"meter": "images", "measures": {"images": 10}, "transactionId": "b-3"},
        CALL | {"transactionId": "b-4", "holdId": hold["id"]},
        CALL | {"transactionId": "b-5", "holdId": hold["id"]},
        CALL | {"transactionId": "b-6", "measures": {"output_tokens": 10**9}},
        CALL,
        {"colour": "red"},
    ]
    answer = await rich.post(f"{USAGE}/batch", {"usage": items})
    assert answer.status == 200, answer.json
    results = answer.json["results"]
    assert [result["status"] for result in results] == [
        "replayed", "posted", "replayed", "invalid", "posted", "posted", "hold_closed",
        "insufficient", "invalid", "invalid",
    ]  # fmt: skip
    charged = [results[place]["transaction"]["amount"] for place in (1, 4, 5)]
    assert charged == [-CALL_COST, -0.4, -CALL_COST]
    assert [results[place]["price"]["total"] for place in (0, 2)] == [CALL_COST, CALL_COST]
    assert results[3]["error"]["errors"][0]["loc"] == ["body", "usage", 3, "model"]
    assert re.search(r"captured at .* by ct_", results[6]["error"]["detail"])
    assert results[7]["error"]["required"] == 10_000
    for count in (0, 1001):
        wrong = await rich.post(f"{USAGE}/batch", {"usage": [{}] * count})
        assert wrong.status == 422


async def test_a_quote_prices_and_posts_nothing(rich: ApiClient) -> None:
    await rich.pool.execute("UPDATE accounts SET recharge_below = 200")
    one = (await rich.post(f"{USAGE}/quote", CALL)).json
    assert (one["total"], one["prices"][0]["book"]) == (CALL_COST, "default")
    images = {"meter": "images", "measures": {"images": 3}}
    many = (await rich.post(f"{USAGE}/quote", {"items": [CALL, images]})).json
    assert (many["total"], [price["total"] for price in many["prices"]]) == (
        2.87,
        [CALL_COST, 0.12],
    )
    assert await rows(rich) == 0
    assert await rich.pool.fetchval("SELECT count(*) FROM recharge_attempts") == 0


@pytest.mark.parametrize(
    ("body", "location"),
    [
        ({}, ["measures"]),
        ({"items": []}, ["items"]),
        ({"items": [CALL] * 1001}, ["items"]),
        ({"items": [CALL], "model": "gpt-4o"}, ["items"]),
        ({"items": [CALL, CALL | {"model": "gpt-9"}]}, ["items", 1, "model"]),
        ({"items": [CALL, {"measures": {"smell": 1}, "model": "gpt-4o"}]},
         ["items", 1, "measures", "smell"]),
    ],
)  # fmt: skip
async def test_a_quote_that_cannot_be_is_refused_with_its_location(
    rich: ApiClient, body: dict[str, Any], location: list[Any]
) -> None:
    answer = await rich.post(f"{USAGE}/quote", body)
    assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["body", *location])
