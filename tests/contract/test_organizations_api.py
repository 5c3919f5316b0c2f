"""Organizations and webhook endpoints over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient

PATH = "/v1/organizations"
ENDPOINTS = "/v1/webhook-endpoints"


async def test_an_organization_is_made_found_changed_and_listed(api_client: ApiClient) -> None:
    made = await api_client.post(PATH, {"slug": "initech", "name": "Initech"}, idempotency_key="k")
    assert made.status == 201
    assert made.json["currency"] == "usd"
    again = await api_client.post(PATH, {"slug": "initech", "name": "Initech"}, idempotency_key="k")
    assert (again.status, again.json) == (201, made.json)
    taken = await api_client.post(PATH, {"slug": "initech", "name": "Other"})
    assert (taken.status, taken.json["type"]) == (409, "already_exists_error")
    changed = await api_client.call("PATCH", f"{PATH}/initech", {"email": "jo@initech.example"})
    assert changed.json["email"] == "jo@initech.example"
    cleared = await api_client.call("PATCH", f"{PATH}/initech", {"email": None, "name": "Ini"})
    assert (cleared.json["email"], cleared.json["name"]) == (None, "Ini")
    assert (await api_client.get(f"{PATH}/{made.json['id']}")).json == cleared.json
    await api_client.post(PATH, {"slug": "hooli", "name": "Hooli", "currency": "eur"})
    first = (await api_client.get(PATH, limit="1")).json
    rest = (await api_client.get(PATH, cursor=first["nextCursor"])).json
    assert [o["slug"] for o in first["data"] + rest["data"]] == ["initech", "hooli"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"slug": "No Spaces", "name": "x"}, "slug"),
        ({"slug": "a" * 101, "name": "x"}, "slug"),
        ({"slug": "ok", "name": ""}, "name"),
        ({"slug": "ok", "name": "a\0b"}, "name"),
        ({"slug": "ok", "name": "x", "currency": "dollars"}, "currency"),
        ({"slug": "ok", "name": "x", "email": "nobody"}, "email"),
        ({"slug": "ok", "name": "x", "id": "7"}, "id"),
        ({"slug": "01a2069d-5ade-7000-8000-000000000001", "name": "x"}, "slug"),
        ({"name": "x"}, "slug"),
    ],
)
async def test_a_wrong_field_is_named(
    api_client: ApiClient, asked: dict[str, Any], field: str
) -> None:
    answer = await api_client.post(PATH, asked)
    assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["body", field])


async def test_what_can_never_change_is_refused_by_name(
    api_client: ApiClient, organization: Organization
) -> None:
    for name, value in (("slug", "new"), ("currency", "eur"), ("name", None)):
        answer = await api_client.call("PATCH", f"{PATH}/acme", {name: value})
        assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["body", name])


async def test_a_key_of_one_organization_has_no_say_in_others(
    api_client: ApiClient, organization: Organization
) -> None:
    await api_client.post(PATH, {"slug": "other", "name": "Other"})
    own = await api_client.make_key("admin", organization)
    assert [o["slug"] for o in (await own.get(PATH)).json["data"]] == ["acme"]
    assert (await own.get(f"{PATH}/other")).status == 404
    assert (await own.post(PATH, {"slug": "third", "name": "x"})).status == 403
    assert (await own.get(ENDPOINTS)).status == 403
    body = {"url": "https://app.example.com/hooks"}
    assert (await own.call("PUT", ENDPOINTS, body)).status == 403


async def test_an_endpoint_is_put_listed_and_removed(api_client: ApiClient) -> None:
    body = {"url": "https://app.example.com/hooks", "types": ["credits.low"]}
    made = (await api_client.call("PUT", ENDPOINTS, body)).json
    assert made["secret"].startswith("whsec_")
    again = (await api_client.call("PUT", ENDPOINTS, body | {"description": "app"})).json
    assert (again["id"], again["secret"], again["description"]) == (made["id"], None, "app")
    (listed,) = (await api_client.get(ENDPOINTS)).json["data"]
    assert (listed["types"], listed["secret"]) == (["credits.low"], None)
    removed = await api_client.call("DELETE", f"{ENDPOINTS}/{made['id']}")
    assert (removed.status, removed.json["discarded"]) == (200, 0)
    assert (await api_client.call("DELETE", f"{ENDPOINTS}/{made['id']}")).status == 404


@pytest.mark.parametrize(
    "url", ["http://app.example.com", "ftp://x", "https://127.0.0.1/x", "not a url", "https://"]
)
async def test_an_address_that_is_not_public_is_refused(api_client: ApiClient, url: str) -> None:
    answer = await api_client.call("PUT", ENDPOINTS, {"url": url})
    assert (answer.status, answer.json["type"]) == (422, "validation_error")
