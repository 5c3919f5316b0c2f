"""The client shape `credit_transactions` over HTTP."""

from __future__ import annotations

from typing import Any
from unittest import mock
from unittest.mock import AsyncMock

import pytest

from shared.access import service as access
from shared.ledger import keys
from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient

PATH = "/api/credit-transactions"


def asked(**fields: Any) -> dict[str, Any]:
    return {"organizationId": "acme", "amount": 10, "transactionId": "t1"} | fields


# What a client of this shape sends: everything that the shape has, the server's own fields too.
DOCUMENTED = {
    "amount": 123,
    "changeSequence": 123,
    "createdOn": "2023-11-07T05:31:56Z",
    "id": "x",
    "modelCosts": ["aSDinaTvuI8gbWludGxpZnk="],
    "note": "x",
    "organization": {
        "authGroupLink": {"authGroup": "x"},
        "changeSequence": 123,
        "enterpriseOrganization": True,
        "features": {},
        "memory": {"orderedDashboards": ["x"]},
        "name": "x",
        "slug": "acme",
        "supportAccessExpiresAt": "2023-11-07T05:31:56Z",
    },
    "organizationId": "acme",
    "transactionId": "x",
    "updatedOn": "2023-11-07T05:31:56Z",
    "user": "aSDinaTvuI8gbWludGxpZnk=",
    "userId": "x",
    "uuid": "x",
}
KINDS = {
    "amount": int | float,
    "changeSequence": int,
    "createdOn": str,
    "id": str,
    "modelCosts": list,
    "note": str | None,
    "organization": dict,
    "organizationId": str,
    "transactionId": str,
    "updatedOn": str,
    "user": str | None,
    "userId": str | None,
    "uuid": str,
}


async def test_the_documented_request_gets_the_documented_shape(
    api_client: ApiClient, organization: Organization
) -> None:
    by_header = {"x-api-key": str(api_client.key)}
    answer = await api_client.with_key(None).call("POST", PATH, DOCUMENTED, headers=by_header)
    assert answer.status == 200, answer.json
    made = answer.json
    assert all(isinstance(made[name], kind) for name, kind in KINDS.items()), made
    kept = ("amount", "modelCosts", "note", "transactionId", "user", "userId")
    assert {name: made[name] for name in kept} == {name: DOCUMENTED[name] for name in kept}
    assert made["changeSequence"] == 1
    owner = made["organization"]
    assert owner["id"] == made["organizationId"] == str(organization.id)
    assert {"name", "slug", "stripeCustomerId", "createdOn", "updatedOn"} <= set(owner)
    # What the shape has of the answer can be sent back: it is the same request.
    again = await api_client.post(PATH, {name: made[name] for name in KINDS})
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_credits_are_added_and_used(
    api_client: ApiClient, organization: Organization
) -> None:
    added = await api_client.post(PATH, asked(note="welcome"))
    assert (added.status, added.json["type"], added.json["amount"]) == (200, "grant", 10)
    used = await api_client.post(PATH, asked(amount=-4.25, transactionId="t2", userId="u1"))
    assert (used.json["amount"], used.json["balanceAfter"]) == (-4.25, 5.75)
    assert used.json["changeSequence"] == 2
    assert used.json["organization"]["slug"] == "acme"
    again = await api_client.get(f"{PATH}/{used.json['id']}")
    assert again.json == used.json


async def test_the_same_request_is_answered_again(
    api_client: ApiClient, organization: Organization
) -> None:
    first = await api_client.post(PATH, asked())
    second = await api_client.post(PATH, asked())
    assert second.json == first.json
    assert second.headers["Idempotent-Replayed"] == "true"
    other = await api_client.post(PATH, asked(amount=11))
    assert (other.status, other.json["type"]) == (409, "idempotency_error")


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"amount": "10"}, ["body", "amount"]),
        ({"amount": 0}, ["body", "amount"]),
        ({"amount": 1e30}, ["body", "amount"]),
        ({"amount": 0.1234567891}, ["body", "amount"]),
        ({"colour": "red"}, ["body", "colour"]),
        ({"type": "expiration"}, ["body", "type"]),
        *(
            ({"transactionId": f"{beginning}x"}, ["body", "transactionId"])
            for beginning in keys.RESERVED
        ),
        ({"organization": {"slug": "other"}}, ["body", "organization", "slug"]),
        (
            {"organizationId": None, "organization": {"id": "acme", "slug": "other"}},
            ["body", "organization", "slug"],
        ),
        ({"note": "a\0b"}, ["body", "note"]),
        ({"user": "a\0b"}, ["body", "user"]),
        ({"user": "x" * 2001}, ["body", "user"]),
        ({"modelCosts": ["a\0b"]}, ["body", "modelCosts"]),
        ({"effectiveOn": "2026-01-01T00:00:00"}, ["body", "effectiveOn"]),
    ],
)
async def test_a_wrong_field_is_named(
    api_client: ApiClient, organization: Organization, fields: dict[str, Any], location: list[str]
) -> None:
    answer = await api_client.post(PATH, asked(**fields))
    assert (answer.status, answer.json["type"]) == (422, "validation_error")
    assert answer.json["errors"][0]["loc"] == location


async def test_more_than_the_balance_is_refused(
    api_client: ApiClient, organization: Organization
) -> None:
    answer = await api_client.post(PATH, asked(amount=-1))
    assert (answer.status, answer.json["type"]) == (402, "insufficient_credits_error")
    assert answer.json["detail"].startswith("This needs 1 credit; 0 are available")
    overdrawn = await api_client.post(PATH, asked(amount=-1, onInsufficient="overdraft"))
    assert overdrawn.json["balanceAfter"] == -1


async def test_a_key_of_one_organization_sees_no_other(
    api_client: ApiClient, organization: Organization
) -> None:
    row = (await api_client.post(PATH, asked())).json
    await api_client.pool.execute(
        "INSERT INTO organizations (id, slug, name) VALUES (gen_random_uuid(), 'other', 'Other')"
    )
    own = await api_client.make_key("write", organization)
    assert (await own.get(f"{PATH}/{row['uuid']}")).status == 200
    assert (await own.post(PATH, {"amount": -1})).json["organizationId"] == str(organization.id)
    refused = await own.post(PATH, asked(organizationId="other"))
    assert (refused.status, refused.json["type"]) == (404, "not_found_error")


async def test_a_batch_has_a_result_for_each(
    api_client: ApiClient, organization: Organization
) -> None:
    items = [
        {"amount": 5, "transactionId": "a"},
        {"amount": -1, "transactionId": "b"},
        {"amount": "x"},
        {"amount": -100},
        {"amount": 5, "transactionId": "a"},
    ]
    answer = await api_client.post("/v1/billing/acme/transactions/batch", {"transactions": items})
    results = answer.json["results"]
    assert [r["status"] for r in results] == [
        "posted", "posted", "invalid", "insufficient", "replayed",
    ]  # fmt: skip
    assert results[2]["error"]["errors"][0]["loc"] == ["body", "transactions", 2, "amount"]


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"amount": "x"}, "amount"),
        ({"amount": 0}, "amount"),
        ({"amount": 1, "colour": "red"}, "colour"),
        ({"amount": 1, "note": "a\0b"}, "note"),
        ({"amount": 1, "transactionId": "stripe:pi_1"}, "transactionId"),
        ({"amount": 1, "organizationId": "other"}, "organizationId"),
        ({}, "amount"),
    ],
)
async def test_a_wrong_field_of_a_batch_is_named_with_its_place(
    api_client: ApiClient, organization: Organization, item: dict[str, Any], field: str
) -> None:
    asked = {"transactions": [{"amount": 1}, item]}
    answer = await api_client.post("/v1/billing/acme/transactions/batch", asked)
    posted, refused = answer.json["results"]
    assert posted["status"] == "posted"
    assert refused["error"]["errors"][0]["loc"] == ["body", "transactions", 1, field]


async def test_a_batch_takes_no_other_organization_than_that_of_its_path(
    api_client: ApiClient, organization: Organization
) -> None:
    items: list[dict[str, Any]] = [
        {"amount": 1, "organizationId": str(organization.id).upper()},
        {"amount": 1, "organization": {"slug": "acme"}},
        {"amount": 1, "organization": {"slug": "other"}},
        {"amount": 1, "organizationId": "other"},
    ]
    answer = await api_client.post("/v1/billing/acme/transactions/batch", {"transactions": items})
    results = answer.json["results"]
    assert [r["status"] for r in results] == ["posted", "posted", "invalid", "invalid"]
    assert results[2]["error"]["errors"][0]["loc"] == [
        "body",
        "transactions",
        2,
        "organization",
        "slug",
    ]


async def test_who_gives_credits_is_written_down_and_who_uses_them_is_not(
    api_client: ApiClient, organization: Organization
) -> None:
    given = await api_client.post(PATH, asked())
    await api_client.post(PATH, asked())
    await api_client.post(PATH, asked(amount=-1, transactionId="t2"))
    items = [{"amount": -1}, {"amount": 2}]
    await api_client.post("/v1/billing/acme/transactions/batch", {"transactions": items})
    grant = await api_client.post("/v1/billing/acme/grants", {"amount": 3})
    await api_client.post(f"/v1/billing/acme/grants/{grant.json['id']}/void")
    rows = await api_client.pool.fetch("SELECT * FROM audit_log ORDER BY at, id")
    assert [row["action"] for row in rows] == [
        "transactions.post", "transactions.post", "grants.create", "grants.void",
    ]  # fmt: skip
    assert rows[0]["details"] == {"transactions": [given.json["id"]]}
    assert {row["organization_id"] for row in rows} == {organization.id}


async def test_credits_are_not_given_where_it_cannot_be_written_down_who_gives_them(
    api_client: ApiClient, organization: Organization
) -> None:
    batch = "/v1/billing/acme/transactions/batch"
    requests: list[tuple[str, dict[str, Any]]] = [
        (PATH, {"organizationId": "acme", "amount": 5}),
        ("/v1/billing/acme/grants", {"amount": 5}),
        (batch, {"transactions": [{"amount": 5}]}),
    ]
    for path, body in requests:
        with mock.patch.object(access, "record", AsyncMock(side_effect=ConnectionResetError)):
            assert (await api_client.post(path, body)).status == 503
    assert (await api_client.get("/v1/billing/acme/credits/history")).json["total"] == 0
    for path, body in requests:
        assert (await api_client.post(path, body)).status == 200
    assert (await api_client.get("/v1/billing/acme/credits")).json["balance"] == 15


async def test_an_idempotency_key_gets_one_answer(
    api_client: ApiClient, organization: Organization
) -> None:
    first = await api_client.post(
        PATH, {"organizationId": "acme", "amount": 1}, idempotency_key="k"
    )
    again = await api_client.post(
        PATH, {"organizationId": "acme", "amount": 1}, idempotency_key="k"
    )
    assert again.json == first.json
    assert again.headers["Idempotent-Replayed"] == "true"
    other = await api_client.post(
        PATH, {"organizationId": "acme", "amount": 2}, idempotency_key="k"
    )
    assert other.status == 409
    batch = "/v1/billing/acme/transactions/batch"
    body = {"transactions": [{"amount": 1}]}
    one = await api_client.post(batch, body, idempotency_key="b")
    two = await api_client.post(batch, body, idempotency_key="b")
    assert one.json == two.json
    assert two.headers["Idempotent-Replayed"] == "true"


async def test_who_has_no_key_is_told_how_to_send_one(
    api_client: ApiClient, organization: Organization
) -> None:
    answer = await api_client.with_key(None).post(PATH, asked())
    assert (answer.status, answer.json["type"]) == (401, "authentication_error")
    read = await api_client.make_key("read")
    assert (await read.post(PATH, asked())).status == 403
    old = await api_client.post(PATH, asked(), prepaid_version="2020-01-01")
    assert (old.status, old.json["type"]) == (426, "upgrade_required_error")


async def test_the_document_is_served(api_client: ApiClient) -> None:
    answer = await api_client.get("/openapi.json")
    assert answer.json["openapi"] == "3.1.0"
