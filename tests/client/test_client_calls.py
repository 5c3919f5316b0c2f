"""Both clients against the real API: calls, amounts, errors."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from prepaid_client import (
    AlreadyExists,
    AsyncClient,
    Client,
    Conflict,
    Forbidden,
    IdempotencyConflict,
    Insufficient,
    Invalid,
    NotFound,
    Unauthenticated,
)

from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.faulty_proxy import FaultyProxy


async def test_a_debit_uses_credits_exactly(
    prepaid_async: AsyncClient, funded: Organization
) -> None:
    posted = await prepaid_async.debit(
        "acme",
        Decimal("0.000000001"),
        transaction_id="call-1",
        category="inference",
        metadata={"model": "m-1"},
    )
    assert (posted["amount"], posted["balanceAfter"]) == (
        Decimal("-0.000000001"),
        Decimal("99.999999999"),
    )
    assert (await prepaid_async.balance("acme"))["balance"] == Decimal("99.999999999")


async def test_the_blocking_client_makes_the_same_calls(
    prepaid_blocking: Client, funded: Organization
) -> None:
    def use() -> None:
        held = prepaid_blocking.hold("acme", 5, transaction_id="job-1")
        captured = prepaid_blocking.capture("acme", held["id"], Decimal("3.5"))
        assert captured["balanceAfter"] == Decimal("96.5")
        used = prepaid_blocking.explain("acme", str(captured["captureTransactionId"]))
        assert used["sources"][0]["amount"] == Decimal("3.5")
        page = prepaid_blocking.history("acme", limit=1)
        assert (len(page["data"]), page["total"]) == (1, 2)
        assert prepaid_blocking.organization("acme")["currency"] == "usd"
        with pytest.raises(Insufficient):
            prepaid_blocking.debit("acme", 1000)

    await asyncio.to_thread(use)


async def test_a_hold_is_released(prepaid_async: AsyncClient, funded: Organization) -> None:
    held = await prepaid_async.hold("acme", 5)
    assert (await prepaid_async.release("acme", held["id"]))["status"] == "released"
    assert (await prepaid_async.get_hold("acme", held["id"]))["status"] == "released"
    with pytest.raises(Conflict) as refused:
        await prepaid_async.capture("acme", held["id"], 1)
    assert type(refused.value) is Conflict


async def test_a_refusal_has_its_numbers_and_its_request(
    prepaid_async: AsyncClient, funded: Organization
) -> None:
    await prepaid_async.hold("acme", 20)
    with pytest.raises(Insufficient) as refused:
        await prepaid_async.debit("acme", 120)
    error = refused.value
    assert (error.required, error.available, error.balance, error.held) == (120, 80, 100, 20)
    assert (error.recharge_in_progress, error.retry_after, error.is_local) == (False, None, False)
    assert error.status == 402
    assert error.request_id
    assert str(error).startswith("This needs 120 credits")


async def test_each_error_has_its_class(
    prepaid_async: AsyncClient,
    api_client: ApiClient,
    proxy: FaultyProxy,
    organization: Organization,
) -> None:
    with pytest.raises(Invalid) as refused:
        await prepaid_async.debit("acme", Decimal("1e-10"))
    assert refused.value.errors[0]["loc"] == ["body", "amount"]
    with pytest.raises(AlreadyExists):
        await prepaid_async.create_organization("acme", "Acme")
    with pytest.raises(NotFound):
        await prepaid_async.organization("hooli")
    await prepaid_async.grant("acme", 5, transaction_id="gift")
    with pytest.raises(IdempotencyConflict):
        await prepaid_async.grant("acme", 6, transaction_id="gift")
    async with AsyncClient(proxy.url, "ppk_nobody") as stranger:
        with pytest.raises(Unauthenticated):
            await stranger.balance("acme")
    key = (await api_client.make_key("read")).key
    assert key is not None
    async with AsyncClient(proxy.url, key) as reader:
        with pytest.raises(Forbidden) as forbidden:
            await reader.debit("acme", 1)
        assert forbidden.value.type == "permission_error"
