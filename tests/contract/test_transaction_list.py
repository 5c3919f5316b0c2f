"""The client shape `transaction_list` over HTTP: pages by number, filters, and one transaction."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from shared.errors import InvalidRequestError, ValidationError
from shared.ledger.filters import OPERATORS
from shared.ledger.model import TransactionType
from shared.organizations import service as organizations
from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.operation_requests import check_refused
from tests.fixtures.product import Answer

PATH = "/api/credit-transactions/list/"
FIELDS = {
    "id": str,
    "organization_subscription": int,
    "unique_organization_id": str,
    "amount": int | float,
    "transaction_type": str,
    "created_at": str,
    "expires_at": str | None,
    "description": str | None,
    "stripe_payment_intent_id": str | None,
    "metadata": dict,
}


async def fill(api_client: ApiClient) -> None:
    """Post five rows: a grant that expires, a bonus, and three uses."""
    given = await api_client.post(
        "/v1/billing/acme/grants",
        {
            "amount": 150.75,
            "expiresAt": "2999-01-01T00:00:00Z",
            "note": "Welcome bonus 100%_off",
            "metadata": {"campaign": "new_user", "n": 5},
        },
    )
    assert given.status == 200, given.json
    items: list[dict[str, Any]] = [
        {"amount": 10, "type": "bonus", "note": "thanks", "metadata": {"n": "5", "ok": True}},
        {"amount": -1, "note": "welcome back", "metadata": {"n": 6.5}},
        {"amount": -2.5},
        {"amount": -0.000000001, "note": "Ünïcode ' OR 1=1 --"},
    ]
    posted = await api_client.post("/v1/billing/acme/transactions/batch", {"transactions": items})
    assert {result["status"] for result in posted.json["results"]} == {"posted"}


async def search(api_client: ApiClient, filters: dict[str, Any], query: str = "") -> Answer:
    return await api_client.post(PATH + query, {"filters": filters})


async def test_the_documented_request_gets_the_documented_shape(
    api_client: ApiClient, organization: Organization
) -> None:
    await fill(api_client)
    listed = (await api_client.get(PATH)).json
    assert list(listed) == ["count", "next", "previous", "results"]
    assert (listed["count"], listed["next"], listed["previous"]) == (5, None, None)
    for row in listed["results"]:
        one = await api_client.get(f"/api/credit-transactions/{row['id']}/")
        assert one.json == row
        assert list(row) == list(FIELDS)
        assert all(isinstance(row[name], kind) for name, kind in FIELDS.items()), row
    grant = listed["results"][-1]
    assert grant["id"].startswith("ct_")
    assert (grant["amount"], grant["transaction_type"]) == (150.75, "grant")
    assert grant["expires_at"] == "2999-01-01T00:00:00Z"
    assert grant["unique_organization_id"] == str(organization.id)
    assert grant["metadata"] == {"campaign": "new_user", "n": 5}


async def test_there_is_no_transaction_of_another_name(
    api_client: ApiClient, organization: Organization
) -> None:
    for name in (str(organization.id), "ct_1a2b3c4d5e6f7g8h", "x", "%27%20OR%201=1"):
        answer = await api_client.get(f"/api/credit-transactions/{name}/")
        assert (answer.status, answer.json["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("bound", [True, False])
async def test_pages_lead_to_each_other_and_miss_nothing(
    api_client: ApiClient, organization: Organization, bound: bool
) -> None:
    await fill(api_client)
    client = await api_client.make_key("read", organization) if bound else api_client
    path, seen = f"{PATH}?page_size=2", []
    while path:
        page = (await client.call("GET", path)).json
        assert page["count"] == 5
        seen += [row["id"] for row in page["results"]]
        address = urlsplit(page["next"]) if page["next"] else None
        path = f"{address.path}?{address.query}" if address else ""
    assert len(seen) == len(set(seen)) == 5
    assert dict(parse_qsl(urlsplit(page["previous"]).query)) == {"page": "2", "page_size": "2"}
    beyond = (await client.get(PATH, page="9", page_size="2")).json
    assert (beyond["results"], beyond["next"]) == ([], None)
    assert dict(parse_qsl(urlsplit(beyond["previous"]).query))["page"] == "3"


@pytest.mark.parametrize(
    ("field", "operator", "value", "amounts"),
    [
        ("transaction_type", "", ["grant"], [150.75]),
        ("transaction_type", "in", ["grant", "bonus"], [10, 150.75]),
        ("transaction_type", "not", ["usage"], [10, 150.75]),
        ("transaction_type", "icontains", ["US"], [-1e-9, -2.5, -1, 10]),
        ("amount", "lt", [-1], [-2.5]),
        ("amount", "lte", [-1], [-2.5, -1]),
        ("amount", "gt", [10], [150.75]),
        ("amount", "gte", [10], [10, 150.75]),
        ("amount", "", [-0.000000001], [-1e-9]),
        ("description", "contains", ["100%_"], [150.75]),
        ("description", "contains", ["100__"], []),
        ("description", "icontains", ["WELCOME"], [-1, 150.75]),
        ("description", "startswith", ["wel"], [-1]),
        ("description", "endswith", ["back"], [-1]),
        ("description", "iexact", ["THANKS"], [10]),
        ("description", "isnull", [True], [-2.5]),
        ("description", "", ["Ünïcode ' OR 1=1 --"], [-1e-9]),
        ("description", "not", ["thanks"], [-1e-9, -2.5, -1, 150.75]),
        ("expires_at", "isnull", [False], [150.75]),
        ("expires_at", "gt", ["2998-01-01T00:00:00+02:00"], [150.75]),
        ("created_at", "gt", ["2020-01-01T00:00:00Z"], [-1e-9, -2.5, -1, 10, 150.75]),
        ("created_at", "lt", ["2020-01-01T00:00:00Z"], []),
        ("stripe_payment_intent_id", "isnull", [True], [-1e-9, -2.5, -1, 10, 150.75]),
        ("metadata__campaign", "", ["new_user"], [150.75]),
        ("metadata__campaign", "isnull", [False], [150.75]),
        ("metadata__n", "", [5], [150.75]),
        ("metadata__n", "", ["5"], [10, 150.75]),
        ("metadata__n", "gt", [5], [-1]),
        ("metadata__ok", "", [True], [10]),
        ("metadata__no' OR 1=1 --", "", ["x"], []),
    ],
)
@pytest.mark.parametrize("bound", [True, False])
async def test_a_filter_leaves_what_it_says(
    api_client: ApiClient,
    organization: Organization,
    field: str,
    operator: str,
    value: list[Any],
    amounts: list[float],
    bound: bool,
) -> None:
    await fill(api_client)
    client = await api_client.make_key("read", organization) if bound else api_client
    found = await search(client, {field: {"operator": operator, "value": value}})
    assert found.status == 200, found.json
    shown = [row["amount"] for row in found.json["results"]]
    # Of all organizations, the order within a millisecond is that of their random ids.
    assert (shown if bound else sorted(shown)) == (amounts if bound else sorted(amounts))
    assert found.json["count"] == len(amounts)


async def test_every_filter_must_hold_and_pages_are_of_what_is_left(
    api_client: ApiClient, organization: Organization
) -> None:
    await fill(api_client)
    both = {
        "unique_organization_id": {"operator": "", "value": [str(organization.id)]},
        "amount": {"operator": "lt", "value": [0]},
    }
    page = (await search(api_client, both, "?page=2&page_size=2")).json
    assert (page["count"], [row["amount"] for row in page["results"]]) == (3, [-1])
    nobody = {"unique_organization_id": {"value": ["01a2069d-5ade-7000-8000-000000000001"]}}
    assert (await search(api_client, nobody)).json["count"] == 0
    row = page["results"][0]
    one = await search(api_client, {"id": {"operator": "in", "value": [row["id"]]}})
    assert one.json["results"] == [row]
    number = {"organization_subscription": {"value": [row["organization_subscription"]]}}
    assert (await search(api_client, number)).json["count"] == 5


async def test_a_key_of_one_organization_filters_its_own_alone(
    api_client: ApiClient, organization: Organization
) -> None:
    await fill(api_client)
    other = await api_client.post("/v1/organizations", {"slug": "other", "name": "Other"})
    async with api_client.pool.acquire() as connection:
        stranger = await organizations.find(connection, other.json["slug"])
    own = await api_client.make_key("read", stranger)
    asked = {"unique_organization_id": {"operator": "", "value": [str(organization.id)]}}
    assert (await search(own, asked)).json["count"] == 0
    assert (await own.get(PATH)).json["count"] == 0


@pytest.mark.parametrize(
    ("filters", "location"),
    [
        ({"colour": {"value": ["red"]}}, ["body", "filters", "colour"]),
        ({"amount": {"operator": "regex", "value": [1]}}, ["body", "filters"]),
        ({"amount": {"operator": "contains", "value": [1]}}, ["body", "filters", "amount"]),
        ({"amount": {"operator": "", "value": ["1"]}}, ["body", "filters", "amount", "value", 0]),
        ({"amount": {"operator": "", "value": [1e-10]}}, ["body", "filters", "amount"]),
        ({"amount": {"operator": "lt", "value": [1, 2]}}, ["body", "filters", "amount"]),
        ({"amount": {"operator": "lt", "value": []}}, ["body", "filters", "amount"]),
        ({"amount": {"operator": "lt"}}, ["body", "filters"]),
        ({"amount": {"value": [1], "mode": "x"}}, ["body", "filters"]),
        ({"created_at": {"operator": "gt", "value": ["yesterday"]}}, ["body", "filters"]),
        ({"created_at": {"operator": "gt", "value": ["2031-01-01T00:00:00"]}}, ["body"]),
        ({"id": {"value": ["7"]}}, ["body", "filters", "id", "value", 0]),
        ({"transaction_type": {"value": ["gift"]}}, ["body", "filters", "transaction_type"]),
        ({"description": {"operator": "isnull", "value": ["yes"]}}, ["body", "filters"]),
        ({"description": {"operator": "contains", "value": ["\0"]}}, ["body", "filters"]),
        ({"description": {"operator": "contains", "value": ["x" * 1001]}}, ["body", "filters"]),
        ({"metadata__": {"value": ["x"]}}, ["body", "filters", "metadata__"]),
        ({"metadata__prepaid:key": {"value": ["x"]}}, ["body", "filters", "metadata__prepaid:key"]),
        ({"metadata__n": {"value": [1, "1"]}}, ["body", "filters", "metadata__n"]),
        ({f"metadata__{n}": {"value": [1]} for n in range(21)}, ["body", "filters"]),
    ],
)
async def test_a_wrong_filter_is_named(
    api_client: ApiClient, filters: dict[str, Any], location: list[Any]
) -> None:
    answer = await search(api_client, filters)
    assert (answer.status, answer.json["type"]) == (422, "validation_error"), answer.json
    assert answer.json["errors"][0]["loc"][: len(location)] == location


DEEP = "[" * 967 + "]" * 967
UNREADABLE = {
    "description": ("startswith", [b'"\xff"', b'"\xed\xa0\x80"', rb'"\ud800"', DEEP.encode()]),
    "id": ("", [b'"\xff"', DEEP.encode()]),
    "created_at": ("lt", [b'"\xff"', DEEP.encode()]),
    "amount": ("isnull", [b'"\xff"', DEEP.encode()]),
    "metadata__n": ("isnull", [b'"\xff"', DEEP.encode()]),
    "metadata__m": ("in", [b'"\xff"', DEEP.encode()]),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_value_that_cannot_be_read_is_refused(api_client: ApiClient, name: str) -> None:
    operator, values = UNREADABLE[name]
    for value in values:
        condition = b'{"operator":"%s","value":[%s]}' % (operator.encode(), value)
        body = b'{"filters":{"%s":%s}}' % (name.encode(), condition)
        answer = await api_client.call("POST", PATH, body)
        check_refused(answer, InvalidRequestError, ValidationError)
        for error in answer.json.get("errors", []):
            assert error["loc"][:3] == ["body", "filters", name]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("page=0", "page"), ("page=-1", "page"), ("page_size=0", "page_size"),
        ("page_size=1001", "page_size"), ("page=1&page=2", "page"), ("cursor=x", "cursor"),
        ("page=99999999999999999999", "page"),
    ],
)  # fmt: skip
async def test_a_wrong_page_is_named(api_client: ApiClient, query: str, name: str) -> None:
    for method, body in (("GET", None), ("POST", {})):
        answer = await api_client.call(method, f"{PATH}?{query}", body)
        assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["query", name])


def test_every_operator_that_is_promised_fits_some_field() -> None:
    promised = {
        "", "iexact", "lt", "lte", "gt", "gte", "contains", "icontains", "startswith",
        "endswith", "in", "isnull", "not",
    }  # fmt: skip
    assert {operator.value for fits in OPERATORS.values() for operator in fits} == promised
    assert {"purchase", "grant", "adjustment", "refund", "bonus"} <= set(TransactionType)
