"""Tags of transactions, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient

PATH = "/api/credit-transactions"


def asked(**fields: Any) -> dict[str, Any]:
    return {"organizationId": "acme", "amount": 10, "transactionId": "t1"} | fields


async def test_tags_are_returned_and_are_no_part_of_the_metadata(
    api_client: ApiClient, organization: Organization
) -> None:
    sent = asked(tags=["project/alpha", "größe:L", "a@b-c.d_1"], metadata={"model": "m1"})
    posted = await api_client.post(PATH, sent)
    assert posted.status == 200, posted.json
    read = await api_client.get(f"{PATH}/{posted.json['id']}")
    for answer in (posted, read):
        assert answer.json["tags"] == ["project/alpha", "größe:L", "a@b-c.d_1"]
        assert answer.json["metadata"] == {"model": "m1"}


async def test_a_transaction_without_tags_has_none(
    api_client: ApiClient, organization: Organization
) -> None:
    posted = await api_client.post(PATH, asked())
    assert posted.json["tags"] == []
    replayed = await api_client.post(PATH, asked(tags=[]))
    assert replayed.headers["Idempotent-Replayed"] == "true"


async def test_the_same_transaction_with_other_tags_is_another_request(
    api_client: ApiClient, organization: Organization
) -> None:
    await api_client.post(PATH, asked(tags=["a"]))
    again = await api_client.post(PATH, asked(tags=["a"]))
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await api_client.post(PATH, asked(tags=["b"]))).status == 409


@pytest.mark.parametrize(
    "tags",
    [
        ["a b"],
        [""],
        ["a\n"],
        ["x" * 65],
        [f"t{n}" for n in range(9)],
        ["a", "a"],
        ["=1+1"],
        ["é\0"],
    ],
)
async def test_tags_of_another_form_are_refused_with_their_location(
    api_client: ApiClient, organization: Organization, tags: list[str]
) -> None:
    answer = await api_client.post(PATH, asked(tags=tags))
    assert answer.status == 422
    assert answer.json["errors"][0]["loc"] == ["body", "tags"]


async def test_a_batch_takes_tags_and_names_the_one_that_is_refused(
    api_client: ApiClient, organization: Organization
) -> None:
    answer = await api_client.post(
        "/v1/billing/acme/transactions/batch",
        {
            "transactions": [
                {"amount": 5, "transactionId": "a", "tags": ["one"]},
                {"amount": 5, "transactionId": "b", "tags": ["one two"]},
            ]
        },
    )
    good, bad = answer.json["results"]
    assert good["transaction"]["tags"] == ["one"]
    assert bad["error"]["errors"][0]["loc"] == ["body", "transactions", 1, "tags"]
