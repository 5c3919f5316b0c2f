"""Holds for streams over HTTP: their fields, partial captures, extension, and how they ended."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.ledger import make_due

HOLDS = "/v1/billing/acme/holds"
FIELDS: dict[str, Any] = {
    "note": "a chat",
    "category": "inference",
    "userId": "jo",
    "metadata": {"model": "m-1", "run": 7},
    "tags": ["project/a"],
}


@pytest_asyncio.fixture
async def rich(api_client: ApiClient, organization: Organization) -> ApiClient:
    """Give the organization 100 credits."""
    made = await api_client.post("/v1/billing/acme/grants", {"amount": 100})
    assert made.status == 200
    return api_client


async def hold(client: ApiClient, **fields: Any) -> dict[str, Any]:
    made = await client.post(HOLDS, {"amount": 40} | fields)
    assert made.status == 200, made.json
    result: dict[str, Any] = made.json
    return result


async def test_a_hold_shows_its_fields_and_is_found_by_its_transaction_id(
    rich: ApiClient,
) -> None:
    made = await hold(rich, transactionId="call-1", **FIELDS)
    await hold(rich)
    assert {name: made[name] for name in FIELDS} == FIELDS
    assert (made["transactionId"], made["remaining"]) == ("call-1", 40)
    found = (await rich.get(HOLDS, transactionId="call-1")).json
    assert found == {"data": [made], "nextCursor": None}
    assert (await rich.get(HOLDS, transactionId="call-1", status="captured")).json["data"] == []
    assert (await rich.get(HOLDS, transactionId="call-2")).json["data"] == []
    other = {"amount": 40, "transactionId": "call-1"} | FIELDS | {"userId": "mo"}
    assert (await rich.post(HOLDS, other)).status == 409


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"tags": ["a b"]}, ["body", "tags"]),
        ({"metadata": {"prepaid:key": "x"}}, ["body", "metadata"]),
        ({"userId": "u" * 256}, ["body", "userId"]),
        ({"category": "c" * 101}, ["body", "category"]),
    ],
)
async def test_a_field_of_a_hold_that_is_refused_is_named(
    rich: ApiClient, fields: dict[str, Any], location: list[str]
) -> None:
    answer = await rich.post(HOLDS, {"amount": 1} | fields)
    assert (answer.status, answer.json["errors"][0]["loc"]) == (422, location)


async def test_a_capture_has_the_fields_of_its_hold_unless_it_has_its_own(
    rich: ApiClient,
) -> None:
    made = await hold(rich, **FIELDS)
    own = {"category": "image", "metadata": {"run": 8}, "quantity": 120, "final": False}
    part = await rich.post(
        f"{HOLDS}/{made['id']}/capture", {"amount": 1, **own}, idempotency_key="k"
    )
    rest = await rich.post(f"{HOLDS}/{made['id']}/capture", {"amount": 2, "transactionId": "t-2"})
    rows = [
        (await rich.get(f"/api/credit-transactions/{answer.json['captureTransactionId']}")).json
        for answer in (part, rest)
    ]
    assert [row["userId"] for row in rows] == ["jo", "jo"]
    assert [row["note"] for row in rows] == ["a chat", "a chat"]
    assert [row["category"] for row in rows] == ["image", "inference"]
    assert [row["metadata"]["run"] for row in rows] == [8, 7]
    assert [row["metadata"]["model"] for row in rows] == ["m-1", "m-1"]
    assert [row["tags"] for row in rows] == [["project/a"]] * 2
    assert (rows[0]["quantity"], rows[1]["transactionId"]) == (120, "t-2")


async def test_parts_are_captured_once_each_until_the_final_one(rich: ApiClient) -> None:
    made = await hold(rich)
    capture = f"{HOLDS}/{made['id']}/capture"
    asked = {"amount": 12.5, "transactionId": "part-1", "final": False}
    first = (await rich.post(capture, asked)).json
    assert (first["status"], first["capturedAmount"], first["remaining"]) == ("active", 12.5, 27.5)
    assert (first["captureAmount"], first["balanceAfter"]) == (12.5, 87.5)
    again = await rich.post(capture, asked)
    assert again.json == first
    assert again.headers["Idempotent-Replayed"] == "true"
    small = {"amount": 1, "final": False}
    keyed = [await rich.post(capture, small, idempotency_key="key-1") for _ in range(2)]
    assert keyed[0].json == keyed[1].json
    assert (await rich.post(capture, asked | {"amount": 13})).status == 409
    last = (await rich.post(capture, {"amount": 2, "transactionId": "part-2"})).json
    assert (last["status"], last["capturedAmount"], last["remaining"]) == ("captured", 15.5, 0)
    assert (await rich.post(capture, asked)).headers["Idempotent-Replayed"] == "true"


async def test_a_capture_of_zero_closes_the_hold_without_a_row(rich: ApiClient) -> None:
    made = await hold(rich)
    capture = f"{HOLDS}/{made['id']}/capture"
    closed = await rich.post(capture, {"amount": 0})
    assert (closed.json["status"], closed.json["captureTransactionId"]) == ("captured", None)
    assert (closed.json["capturedAmount"], closed.json["balanceAfter"]) == (0, 100)
    again = await rich.post(capture, {"amount": 0})
    assert (again.json, again.headers["Idempotent-Replayed"]) == (closed.json, "true")
    late = await rich.post(capture, {"amount": 1})
    assert (late.status, late.json["type"]) == (409, "conflict_error")
    assert "without a debit" in late.json["detail"]


async def test_a_hold_is_extended_while_it_is_active(rich: ApiClient) -> None:
    made = await hold(rich, expiresInSeconds=60)
    extend = f"{HOLDS}/{made['id']}/extend"
    longer = (await rich.post(extend, {"expiresInSeconds": 600})).json
    assert longer["expiresAt"] > made["expiresAt"]
    shorter = await rich.post(extend, {"expiresInSeconds": 1})
    assert (shorter.status, shorter.json) == (200, longer)
    for wrong in ({}, {"expiresInSeconds": 0}, {"expiresInSeconds": 30 * 24 * 3600 + 1}):
        assert (await rich.post(extend, wrong)).status == 422
    await rich.post(f"{HOLDS}/{made['id']}/release")
    refused = await rich.post(extend, {"expiresInSeconds": 600})
    assert (refused.status, refused.json["type"]) == (409, "conflict_error")


async def test_a_hold_that_has_ended_says_how_and_what_to_do(rich: ApiClient) -> None:
    captured, released, expired = [await hold(rich, amount=10) for _ in range(3)]
    capture = await rich.post(f"{HOLDS}/{captured['id']}/capture", {"amount": 1})
    await rich.post(f"{HOLDS}/{released['id']}/release")
    await make_due(rich.pool, "holds", expired["id"])
    details = []
    for ended in (captured, released, expired):
        asked = {"amount": 2, "transactionId": "late"}
        answer = await rich.post(f"{HOLDS}/{ended['id']}/capture", asked)
        assert (answer.status, answer.json["type"]) == (409, "conflict_error")
        details.append(answer.json["detail"])
    assert f"captured at {capture.json['closedAt'][:19]}Z by" in details[0]
    assert capture.json["captureTransactionId"] in details[0]
    assert "released at" in details[1]
    assert "expired at" in details[2]
    assert 'onInsufficient "overdraft"' in details[2]
    release = await rich.post(f"{HOLDS}/{captured['id']}/release")
    assert "captured at" in release.json["detail"]


async def test_usage_beyond_hold_and_balance_is_captured_where_it_has_happened(
    rich: ApiClient,
) -> None:
    made = await hold(rich, amount=90)
    capture = f"{HOLDS}/{made['id']}/capture"
    short = await rich.post(capture, {"amount": 120, "allowExceed": True})
    assert (short.status, short.json["required"], short.json["available"]) == (402, 120, 10)
    done = await rich.post(capture, {"amount": 120, "onInsufficient": "overdraft"})
    assert (done.status, done.json["balanceAfter"]) == (200, -20)
