"""The client shape `org_credits` over HTTP: an organization's recent transactions, and receipts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from api.endpoints.org_credits import OrgCreditType
from api.transactions.type_names import NAMES, USAGE_CATEGORIES
from sandbox.signed_events import event
from shared.events.service import Applier
from shared.organizations.model import Organization
from shared.payments.model import SaleTerms
from tests.fixtures.api import ApiClient
from tests.fixtures.product import payment, receive
from tests.fixtures.recharging import Shop
from worker.drainer import Drainer

PATH = "/api/v1/org/acme/credits/transactions"
FIELDS = {
    "id": str,
    "transaction_type": str,
    "amount": int | float,
    "description": str | None,
    "created_at": str,
    "has_receipt": bool,
    "model": str | None,
    "input_tokens": int | None,
    "output_tokens": int | None,
    "inference_cost_usd": int | float | None,
}


async def post(api_client: ApiClient, **fields: Any) -> dict[str, Any]:
    answer = await api_client.post("/api/credit-transactions", {"organizationId": "acme", **fields})
    assert answer.status == 200, answer.json
    made: dict[str, Any] = answer.json
    return made


async def fill(api_client: ApiClient) -> None:
    await post(api_client, amount=100, type="bonus")
    metadata = {
        "model": "m-1", "input_tokens": 12, "output_tokens": 3, "inference_cost_usd": "0.0125",
    }  # fmt: skip
    await post(api_client, amount=-1, category="inference", metadata=metadata, note="a call")
    await post(api_client, amount=-2, category="storage")
    await post(api_client, amount=-3, category="other")
    await post(api_client, amount=-4)
    await post(api_client, amount=5, type="adjustment")


async def test_the_documented_request_gets_the_documented_shape(
    api_client: ApiClient, organization: Organization
) -> None:
    await fill(api_client)
    answer = await api_client.get(PATH, limit="50")
    assert answer.status == 200
    for row in answer.json:
        assert list(row) == list(FIELDS)
        assert all(isinstance(row[name], kind) for name, kind in FIELDS.items()), row
    assert [row["amount"] for row in answer.json] == [5, -4, -3, -2, -1, 100]
    inference = answer.json[4]
    assert (inference["model"], inference["input_tokens"]) == ("m-1", 12)
    assert (inference["inference_cost_usd"], inference["has_receipt"]) == (0.0125, False)


@pytest.mark.parametrize(
    ("types", "amounts"),
    [
        (["inference"], [-1]),
        (["usage"], [-4, -3]),
        (["storage", "usage"], [-4, -3, -2]),
        (["signup_allocation", "inference"], [-1, 100]),
        (["admin_adjustment"], [5]),
        (["refund"], []),
    ],
)
async def test_types_can_be_chosen(
    api_client: ApiClient, organization: Organization, types: list[str], amounts: list[int]
) -> None:
    await fill(api_client)
    query = "&".join(f"transaction_type={name}" for name in types)
    answer = await api_client.call("GET", f"{PATH}?{query}")
    assert [row["amount"] for row in answer.json] == amounts
    assert {row["transaction_type"] for row in answer.json} <= set(types)
    newest = await api_client.call("GET", f"{PATH}?limit=1&{query}")
    assert [row["amount"] for row in newest.json] == amounts[:1]


def test_the_types_are_those_of_the_one_table_and_the_usage_categories() -> None:
    assert set(OrgCreditType) == {names.org_credits for names in NAMES.values()} | USAGE_CATEGORIES


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("transaction_type=gift", "transaction_type"),
        ("offset=1", "offset"),
    ],
)
async def test_a_wrong_parameter_is_named(
    api_client: ApiClient, organization: Organization, query: str, name: str
) -> None:
    answer = await api_client.call("GET", f"{PATH}?{query}")
    assert (answer.status, answer.json["type"]) == (422, "validation_error")
    assert answer.json["errors"][0]["loc"][:2] == ["query", name]


@pytest.mark.parametrize("cost", ["1e999999", "NaN", "1_0", " 5", "\u0661", "0x10", "", True])
async def test_metadata_that_is_no_number_is_shown_as_none(
    api_client: ApiClient, organization: Organization, cost: Any
) -> None:
    await post(
        api_client, amount=1,
        metadata={"model": 7, "input_tokens": "x", "output_tokens": True,
                  "inference_cost_usd": cost},
    )  # fmt: skip
    (row,) = (await api_client.get(PATH)).json
    assert {row[n] for n in ("model", "input_tokens", "output_tokens")} == {None}
    assert row["inference_cost_usd"] is None


async def test_a_payment_leads_to_its_receipt(paying_client: ApiClient, shop: Shop) -> None:
    await shop.save_card()
    bought = await paying_client.post("/v1/billing/acme/top-up", {"amount": 20})
    assert bought.json["state"] == "succeeded", bought.json
    (row,) = (await paying_client.get(PATH)).json
    assert (row["transaction_type"], row["has_receipt"]) == ("purchase", True)
    first = await paying_client.get(f"{PATH}/{row['id']}/receipt")
    assert first.json["url"].startswith(paying_client.api.settings.stripe_api_base)
    assert (await paying_client.get(f"{PATH}/{row['id']}/receipt")).json == first.json


async def test_what_was_given_has_no_receipt(
    api_client: ApiClient, organization: Organization
) -> None:
    made = await post(api_client, amount=1)
    answer = await api_client.get(f"{PATH}/{made['uuid']}/receipt")
    assert (answer.status, answer.json["type"]) == (404, "not_found_error")
    missing = await api_client.get(f"{PATH}/{organization.id}/receipt")
    assert missing.status == 404


async def test_a_payment_that_stripe_does_not_know_has_no_receipt(
    paying_client: ApiClient, shop: Shop
) -> None:
    await receive(shop.pool, payment("stranger", organization="acme"))
    applier = Applier(shop.pool, SaleTerms(Decimal(1)))
    assert await Drainer(shop.pool, applier, make_token=uuid4).drain() == 1
    (row,) = (await paying_client.get(PATH)).json
    answer = await paying_client.get(f"{PATH}/{row['id']}/receipt")
    assert (answer.status, answer.json["type"]) == (404, "not_found_error")


async def test_every_row_of_an_invoice_leads_to_the_invoice(
    paying_client: ApiClient, shop: Shop
) -> None:
    item = {"currency": "usd", "unit_amount": 2000, "product_data": {"name": "Pro"}}
    params: Any = {
        "mode": "payment",
        "success_url": "https://shop.example/ok",
        "line_items": [{"price_data": item, "quantity": 1}],
        "invoice_creation": {"enabled": True},
    }
    opened = await shop.client.v1.checkout.sessions.create_async(params)
    paid = await shop.sim(f"checkout/{opened.id}/pay", email="x@y.zz")
    prices = [
        {"id": "price_1", "metadata": {"prepaid_credits": "1", "prepaid_expires": "P1Y"}},
        {"id": "price_2", "metadata": {"prepaid_credits": "2"}},
    ]
    fields = {
        "id": paid["invoice"],
        "currency": "usd",
        "total": 2000,
        "metadata": {"organization_id": "acme"},
        "lines": {"data": [{"amount": 1000, "price": price} for price in prices]},
    }
    await receive(shop.pool, event("invoice", "invoice.paid", fields))
    applier = Applier(shop.pool, SaleTerms(Decimal(1)))
    assert await Drainer(shop.pool, applier, make_token=uuid4).drain() == 1
    rows = (await paying_client.get(PATH)).json
    assert [row["has_receipt"] for row in rows] == [True, True]
    for row in rows:
        answer = await paying_client.get(f"{PATH}/{row['id']}/receipt")
        assert answer.json["url"].endswith(f"/invoices/{paid['invoice']}")
