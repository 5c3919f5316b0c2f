"""The local gate: a request that needs far more than there was is refused without being sent."""

from __future__ import annotations

from decimal import Decimal

import pytest
from prepaid_client import AsyncClient, Insufficient
from prepaid_client.gate import ORGANIZATIONS_MAX, Gate, Need

from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.faulty_proxy import FaultyProxy

DEBITS = "/api/credit-transactions"


async def refused(client: AsyncClient, amount: int) -> Insufficient:
    with pytest.raises(Insufficient) as found:
        await client.debit("acme", amount)
    return found.value


async def test_what_needs_far_more_is_refused_without_a_request(
    prepaid_async: AsyncClient, proxy: FaultyProxy, funded: Organization
) -> None:
    assert not (await refused(prepaid_async, 500)).is_local
    local = await refused(prepaid_async, 201)
    assert (local.is_local, local.required, local.available) == (True, 201, 100)
    assert prepaid_async.gate.refused == 1
    assert len(proxy.requests(DEBITS)) == 1
    # Not far more: the server decides.
    assert not (await refused(prepaid_async, 200)).is_local
    assert (await prepaid_async.debit("acme", 100))["balanceAfter"] == 0


async def test_a_grant_opens_the_gate(prepaid_async: AsyncClient, funded: Organization) -> None:
    await refused(prepaid_async, 500)
    await prepaid_async.grant("acme", 900)
    assert (await prepaid_async.debit("acme", 500))["balanceAfter"] == 500


async def test_a_balance_that_is_read_opens_the_gate(
    prepaid_async: AsyncClient, api_client: ApiClient, funded: Organization
) -> None:
    await refused(prepaid_async, 500)
    await api_client.post("/v1/billing/acme/grants", {"amount": 900})
    assert (await refused(prepaid_async, 500)).is_local
    await prepaid_async.balance("acme")
    assert (await prepaid_async.debit("acme", 500))["balanceAfter"] == 500


async def test_usage_that_has_happened_passes_the_gate(
    prepaid_async: AsyncClient, proxy: FaultyProxy, funded: Organization
) -> None:
    await refused(prepaid_async, 500)
    posted = await prepaid_async.debit("acme", 500, on_insufficient="overdraft")
    assert posted["balanceAfter"] == -400


async def test_the_gate_can_be_turned_off(
    proxy: FaultyProxy, api_client: ApiClient, funded: Organization
) -> None:
    assert api_client.key is not None
    async with AsyncClient(proxy.url, api_client.key, gate_seconds=0) as client:
        for _ in range(2):
            assert not (await refused(client, 500)).is_local
    assert len(proxy.requests(DEBITS)) == 2


def refusal(available: str, *, recharging: bool = False) -> Insufficient:
    body = {
        "detail": "This needs more.",
        "available": Decimal(available),
        "rechargeInProgress": recharging,
    }
    return Insufficient(402, body)


def test_a_refusal_is_forgotten_after_its_time() -> None:
    gate = Gate(10)
    gate.close("acme", refusal("1"), now=100)
    with pytest.raises(Insufficient):
        gate.check(Need("acme", Decimal(3)), now=109.9)
    gate.check(Need("acme", Decimal(3)), now=110)
    gate.check(Need("hooli", Decimal(3)), now=100)


def test_a_price_that_is_not_known_is_refused_where_nothing_was_available() -> None:
    gate = Gate(10)
    gate.close("acme", refusal("0.1"), now=0)
    gate.check(Need("acme", None), now=1)
    gate.close("acme", refusal("0"), now=0)
    with pytest.raises(Insufficient) as found:
        gate.check(Need("acme", None), now=1)
    assert found.value.required is None


def test_a_refusal_during_a_recharge_leaves_the_gate_open() -> None:
    gate = Gate(10)
    gate.close("acme", refusal("1", recharging=True), now=0)
    gate.check(Need("acme", Decimal(1000)), now=1)


def test_the_gate_remembers_a_bounded_number_of_organizations() -> None:
    gate = Gate(10)
    for number in range(ORGANIZATIONS_MAX + 5):
        gate.close(f"o-{number}", refusal("1"), now=0)
    gate.check(Need("o-0", Decimal(1000)), now=1)
    with pytest.raises(Insufficient):
        gate.check(Need(f"o-{ORGANIZATIONS_MAX + 4}", Decimal(1000)), now=1)
