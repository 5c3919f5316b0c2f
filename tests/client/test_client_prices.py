"""Usage by the price book: posted, quoted, and reserved by an estimate."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import pytest_asyncio
from prepaid_client import AsyncClient, BudgetExceeded, Client, Insufficient, Invalid
from prepaid_client.types import PriceBookRequest

from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.faulty_proxy import Fault, FaultyProxy
from tests.fixtures.ledger import make_due

if TYPE_CHECKING:
    from shared.db.pool import Pool

# No price for cached tokens, and none within input_tokens.
BOOK: PriceBookRequest = {
    "name": "default",
    "prices": [
        {
            "models": ["m-1"],
            "measures": {"input_tokens": "1 / 1K", "output_tokens": "10 / 1K"},
            "within": {},
        },
        {"meters": ["search"], "measures": {"requests": "0.01"}},
    ],
}
CALL: dict[str, Any] = {"model": "m-1", "input_tokens": 1000, "max_output_tokens": 2000}
REPORTED = SimpleNamespace(
    prompt_tokens=900,
    completion_tokens=100,
    prompt_tokens_details=SimpleNamespace(cached_tokens=300),
)


class DisconnectError(Exception):
    """The reader of a stream has gone."""


@pytest_asyncio.fixture
async def priced(prepaid_async: AsyncClient, funded: Organization) -> AsyncClient:
    """Store the price book, and make it valid at once."""
    stored = await prepaid_async.create_price_book(BOOK)
    await prepaid_async.activate_price_book("default", stored["version"])
    return prepaid_async


async def balance(client: AsyncClient) -> object:
    found = await client.balance("acme")
    assert found["reservedCreditsDecimillicents"] == 0
    return found["balance"]


async def test_usage_is_posted_at_the_price_that_is_quoted(
    priced: AsyncClient, proxy: FaultyProxy
) -> None:
    measures = {"input_tokens": 1000, "output_tokens": 50}
    quoted = await priced.quote("acme", model="m-1", measures=measures)
    assert quoted["total"] == Decimal("1.5")
    assert proxy.requests("/quote")[0].key is None
    proxy.fail("/usage", Fault.LOSE_ANSWER, Fault.BAD_GATEWAY_AFTER)
    posted = await priced.usage("acme", model="m-1", measures=measures, user_id="jo")
    assert posted["price"]["total"] == Decimal("1.5")
    assert posted["transaction"] is not None
    assert posted["transaction"]["balanceAfter"] == Decimal("98.5")
    assert await balance(priced) == Decimal("98.5")
    metered = await priced.usage("acme", meter="search", measures={"requests": 3})
    assert metered["price"]["total"] == Decimal("0.03")


async def test_usage_without_a_price_is_refused(priced: AsyncClient) -> None:
    for model, measures in (("m-2", {"input_tokens": 1}), ("m-1", {"images": 1})):
        with pytest.raises(Invalid):
            await priced.usage("acme", model=model, measures=measures)
    with pytest.raises(Insufficient) as refused:
        await priced.usage("acme", model="m-1", measures={"output_tokens": 11_000})
    assert refused.value.required == 110


async def test_an_estimate_is_reserved_and_what_is_reported_is_charged(
    priced: AsyncClient,
) -> None:
    async with priced.reserve("acme", **CALL, user_id="jo", category="chat") as call:
        assert call.hold["amount"] == 21
        call.record(REPORTED)
    # Cached tokens have no price in this book: they are input tokens.
    assert call.captured is not None
    assert call.captured["capturedAmount"] == Decimal("1.9")
    (row, *_) = await priced.transactions("acme", limit=1)
    assert (row["model"], row["input_tokens"], row["output_tokens"]) == ("m-1", 900, 100)
    assert await balance(priced) == Decimal("98.1")


async def test_nothing_but_what_has_no_price_is_left_out_of_a_charge(priced: AsyncClient) -> None:
    async with priced.reserve("acme", model="m-1", max_output_tokens=2000) as call:
        call.record(REPORTED, reasoning_tokens=50)
    # The estimate did not have the input, and neither part has a price.
    assert call.captured is not None
    assert call.captured["capturedAmount"] == Decimal("1.9")


async def test_a_stream_that_breaks_is_charged_by_its_estimated_input_and_its_output(
    priced: AsyncClient,
) -> None:
    async def stream() -> None:
        async with priced.reserve("acme", **CALL) as call:
            for _ in range(7):
                call.add(output_tokens=1)
            raise DisconnectError

    with pytest.raises(DisconnectError):
        await stream()
    assert await balance(priced) == Decimal("98.93")


async def test_the_blocking_client_reserves_an_estimate(
    priced: AsyncClient, prepaid_blocking: Client
) -> None:
    def use() -> None:
        with prepaid_blocking.reserve("acme", meter="search", measures={"requests": 5}) as call:
            call.record(requests=2)

    await asyncio.to_thread(use)
    assert await balance(priced) == Decimal("99.98")


async def test_an_expired_estimate_is_charged_as_usage(priced: AsyncClient, pool: Pool) -> None:
    async with priced.reserve("acme", **CALL, transaction_id="chat-1") as call:
        call.record(REPORTED)
        await make_due(pool, "holds", UUID(call.hold["id"]))
    assert await balance(priced) == Decimal("98.1")


async def test_a_budget_refuses_with_its_numbers(
    priced: AsyncClient, api_client: ApiClient
) -> None:
    budget = {"subjectKind": "user", "subject": "jo", "window": "month", "limit": 20}
    assert (await api_client.post("/v1/billing/acme/budgets", budget)).status == 201
    with pytest.raises(BudgetExceeded) as refused:
        await priced.reserve("acme", **CALL, user_id="jo").__aenter__()
    error = refused.value
    assert (error.required, error.available, error.limit, error.used) == (21, 20, 20, 0)
    assert error.resets_at


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"amount": 1, "model": "m-1", "input_tokens": 5},
        {"model": "m-1"},
        {"input_tokens": 5},
        {"model": "m-1", "meter": "search", "input_tokens": 5},
    ],
)
def test_a_reservation_is_of_an_amount_or_of_an_estimate(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Reserve an amount, or an estimate"):
        Client("http://credits.test", "ppk").reserve("acme", **wrong)
