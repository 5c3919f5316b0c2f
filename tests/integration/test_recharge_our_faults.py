"""An answer of Stripe's that is about this installation is nobody's decline: attempts wait."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from shared.recharge import alerts, service
from shared.recharge.alerts import StripeAlert
from tests.fixtures.api import ApiClient
from tests.fixtures.commands import Command
from tests.fixtures.product import create_organization
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    from sandbox.stripe.process import SimulatorProcess

CREATE: dict[str, Any] = {"method": "POST", "path": "/v1/payment_intents"}
CONFIRM: dict[str, Any] = {"method": "POST", "path": "/v1/payment_intents/*/confirm"}
OUR_FAULTS = ["unauthorized_401", "forbidden_403", "bad_parameter_400"]


NAMES = {CREATE["path"]: "payment_intents.create", CONFIRM["path"]: "payment_intents.confirm"}


async def tick(shop: Shop) -> None:
    async with shop.pool.acquire() as connection, connection.transaction():
        await service.tick(connection, now=shop.clock())


async def standing(shop: Shop) -> list[StripeAlert]:
    async with shop.pool.acquire() as connection:
        return await alerts.current(connection)


async def recharge_messages(shop: Shop) -> list[str]:
    return [kind for kind in await shop.messages() if kind.startswith("recharge.")]


async def mend(shop: Shop) -> None:
    async with shop.session.delete("/_sim/faults") as cleared:
        assert cleared.status == 200


@pytest.mark.parametrize("step", [CREATE, CONFIRM], ids=["create", "confirm"])
@pytest.mark.parametrize("fault", OUR_FAULTS)
async def test_a_key_that_stripe_refuses_suspends_nobody_and_both_are_charged_once_it_is_mended(
    shop: Shop, fault: str, step: dict[str, Any]
) -> None:
    """M3."""
    await shop.add_endpoint()
    other = replace(shop, owner=await create_organization(shop.pool, "other"))
    await shop.sim("faults", **step, fault=fault, times=100)
    for one in (shop, other):
        await one.open()
    for _ in range(3):
        await shop.work()
    for one in (shop, other):
        assert (await one.settings()).state == "active"
        assert (await one.attempt())["settled_at"] is None
    assert await recharge_messages(shop) == []
    (alert,) = await standing(shop)
    assert (alert.cause.split()[1], alert.attempts) == (NAMES[step["path"]], 2)
    await mend(shop)
    await shop.work()
    for one in (shop, other):
        assert [row["state"] for row in await one.attempts()] == ["succeeded"]
        assert await one.captures() == [2000]
        assert (await one.settings()).declines_in_row == 0
    assert await recharge_messages(shop) == ["recharge.succeeded"] * 2
    await tick(shop)
    assert await standing(shop) == []


async def test_an_alert_is_logged_once_when_it_begins_and_once_when_it_ends(shop: Shop) -> None:
    other = replace(shop, owner=await create_organization(shop.pool, "other"))
    await shop.sim("faults", **CREATE, fault="unauthorized_401", times=100)
    with capture_logs() as logs:
        for one in (shop, other):
            await one.open()
        for _ in range(3):
            await shop.work()
            await tick(shop)
        await mend(shop)
        for _ in range(2):
            await shop.work()
            await tick(shop)
    events = [line["event"] for line in logs if line["event"].startswith("recharge.stripe_")]
    assert events == ["recharge.stripe_refuses_us", "recharge.stripe_accepts_us"]


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        ("unauthorized_401", "Deploy a STRIPE_API_KEY"),
        ("forbidden_403", "Give the key this permission"),
        ("bad_parameter_400", "Correct what Stripe names"),
    ],
)
async def test_doctor_and_a_gauge_say_which_attempts_wait_and_what_to_mend(
    shop: Shop, prepaid: Command, stand_in: SimulatorProcess, fault: str, remedy: str
) -> None:
    """M3."""
    await shop.sim("faults", **CREATE, fault=fault, times=100)
    await shop.open()
    await shop.work()
    await alerts.measure(shop.pool)
    assert REGISTRY.get_sample_value("prepaid_recharge_attempts_blocked") == 1
    finished = await prepaid("doctor", "--json", STRIPE_API_BASE=stand_in.url)
    check = next(c for c in finished.json["checks"] if c["name"] == "recharges")
    assert (finished.code, check["ok"]) == (1, False)
    assert "1 attempt waiting since" in check["detail"]
    assert "payment_intents.create" in check["detail"]
    assert remedy in check["detail"]
    await mend(shop)
    await shop.work()
    await tick(shop)
    await alerts.measure(shop.pool)
    assert REGISTRY.get_sample_value("prepaid_recharge_attempts_blocked") == 0
    finished = await prepaid("doctor", "--json", STRIPE_API_BASE=stand_in.url)
    check = next(c for c in finished.json["checks"] if c["name"] == "recharges")
    assert check["ok"] is True


CANCEL: dict[str, Any] = {"method": "POST", "path": "/v1/payment_intents/*/cancel"}
RETRIEVE: dict[str, Any] = {"method": "GET", "path": "/v1/payment_intents/*"}


@pytest.mark.parametrize("fault", OUR_FAULTS)
async def test_a_decline_that_cannot_be_canceled_for_our_fault_counts_once_it_is_mended(
    shop: Shop, fault: str
) -> None:
    await shop.add_endpoint()
    await shop.sim("faults", **CANCEL, fault=fault, times=100)
    await shop.open("pm_card_chargeCustomerFail")
    for _ in range(3):
        await shop.work()
    assert (await shop.attempt())["settled_at"] is None
    assert await recharge_messages(shop) == []
    (alert,) = await standing(shop)
    assert (alert.cause.split()[1], alert.attempts) == ("payment_intents.cancel", 1)
    await mend(shop)
    await shop.work()
    assert (await shop.attempt())["state"] == "failed"
    assert (await shop.settings()).declines_in_row == 1
    assert await recharge_messages(shop) == ["recharge.failed"]


@pytest.mark.parametrize("fault", OUR_FAULTS)
async def test_a_charge_that_cannot_be_asked_about_for_our_fault_is_credited_once_it_is_mended(
    shop: Shop, fault: str
) -> None:
    """However long that takes: nobody knows before whether it was captured."""
    await shop.add_endpoint()
    await shop.sim("faults", **CONFIRM, fault="answer_lost", times=1)
    await shop.sim("faults", **RETRIEVE, fault=fault, times=100)
    await shop.open()
    for _ in range(3):
        await shop.work()
        shop.clock.now += timedelta(hours=20)
    assert (await shop.attempt())["state"] == "unknown"
    assert (await shop.settings()).state == "active"
    assert await recharge_messages(shop) == []
    await mend(shop)
    await shop.work()
    await tick(shop)
    await shop.work()
    assert [row["state"] for row in await shop.attempts()] == ["succeeded"]
    assert await shop.captures() == [2000]
    assert await standing(shop) == []


async def test_a_decline_during_our_outage_counts_against_its_own_organization_alone(
    shop: Shop,
) -> None:
    await shop.add_endpoint()
    await shop.sim("faults", **CONFIRM, fault="unauthorized_401", times=1)
    await shop.open()
    await shop.work()
    ours = (await shop.attempt())["payment_intent_id"]
    path = f"/v1/payment_intents/{ours}/confirm"
    await shop.sim("faults", method="POST", path=path, fault="forbidden_403", times=100)
    other = replace(shop, owner=await create_organization(shop.pool, "other"))
    await other.open("pm_card_chargeCustomerFail")
    await shop.work()
    assert (await other.settings()).declines_in_row == 1
    assert (await other.attempt())["state"] == "failed"
    assert (await shop.settings()).declines_in_row == 0
    assert await recharge_messages(shop) == ["recharge.failed"]
    await mend(shop)
    await shop.work()
    assert await shop.captures() == [2000]
    assert (await shop.settings()).state == "active"


async def test_what_stripe_says_of_our_key_is_not_shown_to_the_customers_app(
    shop: Shop, api_client: ApiClient
) -> None:
    await shop.sim("faults", **CREATE, fault="unauthorized_401", times=100)
    await shop.open()
    await shop.work()
    assert (await shop.attempt())["detail"] is not None
    listed = await api_client.get("/v1/billing/acme/auto-recharge/attempts")
    assert [row["detail"] for row in listed.json["data"]] == [None]


async def intents(shop: Shop) -> list[Any]:
    found = await shop.client.v1.payment_intents.list_async({"limit": 100})
    owner = str(shop.owner.id)
    return [one for one in found.data if one.metadata["organization_id"] == owner]


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("fault", ["answer_lost", "cut_mid_body", "error_500_after"])
async def test_a_lost_answer_to_create_leaves_no_second_payment_intent(
    shop: Shop, fault: str, times: int
) -> None:
    """M19."""
    await shop.sim("faults", **CREATE, fault=fault, times=times)
    await shop.open()
    await shop.work_until_settled()
    assert [one.status for one in await intents(shop)] == ["succeeded"]
    assert await shop.captures() == [2000]


async def test_a_500_that_stripe_stores_is_left_behind_under_another_key(shop: Shop) -> None:
    """The stored answer comes back for a day; the attempt does not wait for that."""
    await shop.sim("faults", **CREATE, fault="error_500_stored")
    await shop.open()
    await shop.work_until_settled()
    assert [row["state"] for row in await shop.attempts()] == ["succeeded"]
    assert (await shop.attempt())["create_key"] == 2
    assert await shop.captures() == [2000]


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_workers_clock_that_jumps_moves_no_wait_for_stripe(shop: Shop, hours: int) -> None:
    """An hour behind, Stripe would be asked without a pause; an hour ahead, nobody for so long."""
    await shop.open()
    shop.clock.now += timedelta(hours=hours)
    await shop.sim("faults", **CONFIRM, fault="rate_limited", times=1)
    await shop.work()
    wait = await shop.pool.fetchval("SELECT due_at - now() FROM recharge_attempts")
    assert timedelta(0) < wait < timedelta(minutes=1)
    await shop.work()
    assert await shop.captures() == [2000]
