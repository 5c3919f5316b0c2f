"""Holds, grants and explanations over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.ledger import make_due

HOLDS = "/v1/billing/acme/holds"
GRANTS = "/v1/billing/acme/grants"


@pytest_asyncio.fixture
async def rich(api_client: ApiClient, organization: Organization) -> ApiClient:
    """Give the organization 100 credits."""
    made = await api_client.post(GRANTS, {"amount": 100, "transactionId": "start"})
    assert made.status == 200
    return api_client


async def test_a_hold_is_captured_in_part(rich: ApiClient) -> None:
    made = (await rich.post(HOLDS, {"amount": 40, "note": "a long job"})).json
    assert (made["status"], made["amount"], made["capturedAmount"]) == ("active", 40, 0)
    captured = await rich.post(f"{HOLDS}/{made['id']}/capture", {"amount": 12.5})
    assert captured.json["status"] == "captured"
    assert (captured.json["capturedAmount"], captured.json["balanceAfter"]) == (12.5, 87.5)
    again = await rich.post(f"{HOLDS}/{made['id']}/capture", {"amount": 12.5})
    assert again.json == captured.json
    assert again.headers["Idempotent-Replayed"] == "true"
    other = await rich.post(f"{HOLDS}/{made['id']}/capture", {"amount": 13})
    assert (other.status, other.json["type"]) == (409, "idempotency_error")
    found = await rich.get(f"{HOLDS}/{made['id']}")
    assert found.json["status"] == "captured"


async def test_a_hold_is_released_and_listed(rich: ApiClient) -> None:
    first = (await rich.post(HOLDS, {"amount": 1})).json
    second = (await rich.post(HOLDS, {"amount": 2})).json
    assert (await rich.post(f"{HOLDS}/{first['id']}/release")).json["status"] == "released"
    again = await rich.post(f"{HOLDS}/{first['id']}/release")
    assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
    page = (await rich.get(HOLDS, limit="1")).json
    assert [hold["id"] for hold in page["data"]] == [second["id"]]
    rest = (await rich.get(HOLDS, limit="1", cursor=page["nextCursor"])).json
    assert [hold["id"] for hold in rest["data"]] == [first["id"]]
    assert rest["nextCursor"] is None
    active = (await rich.get(HOLDS, status="active")).json["data"]
    assert [hold["id"] for hold in active] == [second["id"]]


async def test_the_same_id_is_the_same_hold(rich: ApiClient) -> None:
    asked = {"amount": 5, "transactionId": "job"}
    first, second = await rich.post(HOLDS, asked), await rich.post(HOLDS, asked)
    assert first.json == second.json
    assert second.headers["Idempotent-Replayed"] == "true"
    assert (await rich.post(HOLDS, asked | {"amount": 6})).status == 409
    keyed = [await rich.post(HOLDS, {"amount": 7}, idempotency_key="k") for _ in range(2)]
    assert keyed[0].json["id"] == keyed[1].json["id"]


@pytest.mark.parametrize(
    ("asked", "status", "kind"),
    [
        ({"amount": 101}, 402, "insufficient_credits_error"),
        ({"amount": 0}, 422, "validation_error"),
        ({"amount": -1}, 422, "validation_error"),
        ({"amount": "5"}, 422, "validation_error"),
        ({"amount": 5, "expiresInSeconds": 0}, 422, "validation_error"),
        ({"amount": 5, "expiresInSeconds": 10**9}, 422, "validation_error"),
        ({"amount": 5, "transactionId": "stripe:pi_1"}, 422, "validation_error"),
        ({"amount": 5, "note": "a\0"}, 422, "validation_error"),
        ({"amount": 5, "colour": "red"}, 422, "validation_error"),
        ({}, 422, "validation_error"),
    ],
)
async def test_a_hold_that_cannot_be_is_refused(
    rich: ApiClient, asked: dict[str, Any], status: int, kind: str
) -> None:
    answer = await rich.post(HOLDS, asked)
    assert (answer.status, answer.json["type"]) == (status, kind)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"amount": 41}, 409),
        ({"amount": 0, "final": False}, 422),
        ({"amount": 4, "final": False}, 422),
        ({"amount": -3}, 422),
        ({"amount": 4, "transactionId": "hold:x"}, 422),
        ({"amount": 4, "tags": ["a b"]}, 422),
        ({"amount": 4, "metadata": {"prepaid:key": "x"}}, 422),
        ({}, 422),
    ],
)
async def test_a_capture_that_cannot_be_is_refused(
    rich: ApiClient, asked: dict[str, Any], status: int
) -> None:
    made = (await rich.post(HOLDS, {"amount": 40})).json
    answer = await rich.post(f"{HOLDS}/{made['id']}/capture", asked)
    assert answer.status == status
    exceeding = {"amount": 41, "allowExceed": True}
    assert (await rich.post(f"{HOLDS}/{made['id']}/capture", exceeding)).status == 200


async def test_a_hold_that_has_expired_or_is_anothers_is_not_captured(rich: ApiClient) -> None:
    made = (await rich.post(HOLDS, {"amount": 40})).json
    await make_due(rich.pool, "holds", made["id"])
    late = await rich.post(f"{HOLDS}/{made['id']}/capture", {"amount": 1})
    assert (late.status, late.json["type"]) == (409, "conflict_error")
    created = await rich.post("/v1/organizations", {"slug": "other", "name": "Other"})
    assert created.status == 201
    foreign = f"/v1/billing/other/holds/{made['id']}"
    for answer in (
        await rich.get(foreign),
        await rich.post(f"{foreign}/release"),
        await rich.post(f"{foreign}/capture", {"amount": 1}),
        await rich.get(f"{HOLDS}/nonsense"),
    ):
        assert (answer.status, answer.json["type"]) == (404, "not_found_error")


async def test_a_grant_is_given_listed_and_voided(rich: ApiClient) -> None:
    asked = {"amount": 7, "priority": 1, "expiresAt": "2040-01-01T00:00:00Z", "note": "hello"}
    made = (await rich.post(GRANTS, asked, idempotency_key="g")).json
    assert (made["amount"], made["remaining"], made["priority"]) == (7, 7, 1)
    assert made["promotional"] is True
    assert (await rich.post(GRANTS, asked, idempotency_key="g")).json == made
    await rich.post("/api/credit-transactions", {"organizationId": "acme", "amount": -2})
    voided = (await rich.post(f"{GRANTS}/{made['id']}/void", {"note": "mistake"})).json
    assert (voided["remaining"], voided["endedBy"]) == (0, "void")
    again = await rich.post(f"{GRANTS}/{made['id']}/void", {"note": "mistake"})
    assert again.headers["Idempotent-Replayed"] == "true"
    opened = (await rich.get(GRANTS, open="true")).json["data"]
    assert [grant["remaining"] for grant in opened] == [100]
    everything = (await rich.get(GRANTS)).json["data"]
    assert [grant["amount"] for grant in everything] == [7, 100]
    assert (await rich.get(f"{GRANTS}/{made['id']}")).json == voided


@pytest.mark.parametrize(
    "asked",
    [
        {"amount": -1},
        {"amount": 1, "priority": 101},
        {"amount": 1, "expiresAt": "2020-01-01T00:00:00Z"},
        {"amount": 1, "expiresAt": "soon"},
        {"amount": 1, "metadata": {"a": "x" * 20_000}},
        {"amount": 0.0000000001},
    ],
)
async def test_a_grant_that_cannot_be_is_refused(rich: ApiClient, asked: dict[str, Any]) -> None:
    answer = await rich.post(GRANTS, asked)
    assert (answer.status, answer.json["type"]) == (422, "validation_error")
    assert len((await rich.get(GRANTS)).json["data"]) == 1


async def test_a_debit_and_a_grant_explain_each_other(rich: ApiClient) -> None:
    path = "/api/credit-transactions"
    used = (await rich.post(path, {"organizationId": "acme", "amount": -30})).json
    (grant,) = (await rich.get(GRANTS)).json["data"]
    explain = "/v1/billing/acme/transactions/{}/explain"
    debit = (await rich.get(explain.format(used["id"]))).json
    assert [(s["amount"], s["grantId"]) for s in debit["sources"]] == [(30, grant["id"])]
    credit = (await rich.get(explain.format(grant["transactionId"]))).json
    assert [(u["amount"], u["transactionId"]) for u in credit["uses"]] == [(30, used["id"])]
    assert (await rich.get(explain.format("ct_nothing"))).status == 404


async def test_what_a_grant_paid_for_comes_in_pages(rich: ApiClient) -> None:
    """R20: a credit of 10 million debits was sorted whole for each page."""
    path = "/api/credit-transactions"
    for amount in (-1, -2, -3):
        await rich.post(path, {"organizationId": "acme", "amount": amount})
    (grant,) = (await rich.get(GRANTS)).json["data"]
    explain = f"/v1/billing/acme/transactions/{grant['transactionId']}/explain?limit=2"
    first = (await rich.get(explain)).json
    second = (await rich.get(f"{explain}&cursor={first['nextCursor']}")).json
    assert [use["amount"] for use in first["uses"] + second["uses"]] == [1, 2, 3]
    assert second["nextCursor"] is None
    assert (await rich.get(f"{explain}&cursor=nonsense")).status == 422


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": "é"}, "cursor"),
        ({"colour": "red"}, "colour"),
        ({"open": "maybe"}, "open"),
    ],
)
async def test_a_wrong_query_is_refused_by_name(
    rich: ApiClient, query: dict[str, str], name: str
) -> None:
    answer = await rich.get(GRANTS, **query)
    assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["query", name])
