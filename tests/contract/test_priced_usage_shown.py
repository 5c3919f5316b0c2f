"""Where the price of a row is shown: explain, and the lists of the client shapes."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from shared.pricing.model import UsageItem
from tests.fixtures.api import ApiClient
from tests.fixtures.commands import Command
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.pricing import BOOK, activate_book, post_priced

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

CALL = UsageItem(
    model="gpt-4o",
    measures={
        "input_tokens": Decimal(1_000),
        "cached_input_tokens": Decimal(400),
        "output_tokens": Decimal(300),
    },
)
WITH_MARKUP = f'markup = "20%"\n{BOOK}'
PRICING: dict[str, Any] = {
    "book": "default",
    "version": 1,
    "model": "gpt-4o",
    "measures": {"input_tokens": "1000", "cached_input_tokens": "400", "output_tokens": "300"},
    "lines": [
        {"measure": name, "quantity": quantity, "unitPrice": price, "per": 10**6, "amount": amount}
        for name, quantity, price, amount in (
            ("input_tokens", "600", "2.5", "0.0015"),
            ("cached_input_tokens", "400", "1.25", "0.0005"),
            ("output_tokens", "300", "10", "0.003"),
        )
    ],
    "markup": "20",
    "total": "0.006",
}


async def test_explain_shows_the_book_the_measures_and_the_arithmetic(
    api_client: ApiClient, pool: Pool, organization: Organization
) -> None:
    await activate_book(pool, WITH_MARKUP)
    row_id = await post_priced(pool, organization, CALL)
    explained = await api_client.get(f"/v1/billing/acme/transactions/{row_id}/explain")
    assert explained.json["amount"] == -0.006
    pricing = explained.json["pricing"]
    assert (pricing["book"], pricing["version"], pricing["model"]) == ("default", 1, "gpt-4o")
    assert pricing["measures"] == {
        "input_tokens": 1000, "cached_input_tokens": 400, "output_tokens": 300,
    }  # fmt: skip
    assert [tuple(line.values()) for line in pricing["lines"]] == [
        ("input_tokens", 600, 2.5, 10**6, 0.0015),
        ("cached_input_tokens", 400, 1.25, 10**6, 0.0005),
        ("output_tokens", 300, 10, 10**6, 0.003),
    ]
    assert (pricing["markup"], pricing["discount"], pricing["total"]) == (20, 0, 0.006)


async def test_explain_has_no_pricing_of_a_row_with_an_amount_of_its_own(
    api_client: ApiClient, organization: Organization
) -> None:
    posted = await api_client.post(
        "/api/credit-transactions", {"organizationId": "acme", "amount": 5}
    )
    path = f"/v1/billing/acme/transactions/{posted.json['id']}/explain"
    assert (await api_client.get(path)).json["pricing"] is None


async def test_the_lists_show_model_tokens_and_cost(
    api_client: ApiClient, pool: Pool, organization: Organization
) -> None:
    await activate_book(pool, WITH_MARKUP)
    row_id = await post_priced(pool, organization, CALL)
    rows = (await api_client.get("/api/v1/org/acme/credits/transactions", limit=1)).json
    assert [rows[0][name] for name in ("id", "model", "input_tokens", "output_tokens")] == [
        str(row_id), "gpt-4o", 1_000, 300,
    ]  # fmt: skip
    assert rows[0]["inference_cost_usd"] == 0.005
    shown = (await api_client.get(f"/api/credit-transactions/{row_id}")).json
    assert shown["modelCosts"] == ["default:1:gpt-4o"]
    assert shown["metadata"] == {}


async def test_a_cost_in_another_currency_is_not_in_dollars(
    api_client: ApiClient, pool: Pool, organization: Organization
) -> None:
    await activate_book(pool)
    await pool.execute("UPDATE organizations SET currency = 'eur'")
    await post_priced(pool, organization, CALL)
    rows = (await api_client.get("/api/v1/org/acme/credits/transactions", limit=1)).json
    assert (rows[0]["model"], rows[0]["inference_cost_usd"]) == ("gpt-4o", None)


async def test_the_command_prints_the_arithmetic_line_by_line(
    prepaid: Command, pool: Pool, organization: Organization
) -> None:
    await activate_book(pool, WITH_MARKUP)
    row_id = await post_priced(pool, organization, CALL)
    explained = await prepaid("ledger", "explain", str(row_id))
    assert explained.stdout.splitlines()[-5:] == [
        "  priced by default:1 as gpt-4o",
        "    input_tokens 600 * 2.5 / 1M = 0.0015",
        "    cached_input_tokens 400 * 1.25 / 1M = 0.0005",
        "    output_tokens 300 * 10 / 1M = 0.003",
        "    markup 20%, total 0.006",
    ]
    document = (await prepaid("ledger", "explain", str(row_id), "--json")).json
    assert document["pricing"] == PRICING


async def test_the_console_shows_the_arithmetic_line_by_line(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await activate_book(operator.pool, WITH_MARKUP)
    row_id = await post_priced(operator.pool, organization, CALL)
    page = await operator.get(f"/console/transactions/{row_id}")
    text = " ".join(page.soup.get_text(" ").split())
    assert "Price book default , version 1" in text.replace("default,", "default ,")
    assert "input_tokens 600 2.5 1000000 0.0015" in text
    assert "Markup 20 %" in text
