"""A cancellation whose request reaches its deadline before Stripe answers runs to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import aiohttp
import pytest_asyncio

from sandbox.stripe.process import SimulatorProcess
from shared.config import Settings, load
from tests.fixtures.api import serve_api
from tests.fixtures.console import open_browser
from tests.fixtures.expiring import ExpiringDeadlines
from tests.fixtures.freezing import Gate, gate
from tests.fixtures.product import environment, until
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    from shared.db.pool import Pool

CHALLENGE = "pm_card_authenticationRequired"


@pytest_asyncio.fixture
async def stripe_gate(stand_in: SimulatorProcess) -> AsyncIterator[Gate]:
    """Hold back every answer of Stripe after a cancellation has reached it."""
    async with gate(stand_in.url) as found:
        found.freeze_at = b"/cancel "
        yield found


@pytest_asyncio.fixture
async def gated(database_url: str, redis_url: str, stripe_gate: Gate) -> Settings:
    return load(environment(database_url, redis_url) | {"STRIPE_API_BASE": stripe_gate.url})


async def open_attempt(shop: Shop) -> str:
    """Let a recharge wait for its customer; return the id of the attempt."""
    await shop.open(CHALLENGE)
    await shop.charger.work()
    return str((await shop.attempt())["id"])


async def reached(stripe_gate: Gate) -> None:
    """Wait until Stripe has the cancellation."""

    async def frozen() -> bool:
        return stripe_gate.is_frozen

    await until(frozen)


async def assert_canceled_for_good(shop: Shop, stripe_gate: Gate, actor: str) -> None:
    """Let Stripe answer: the attempt is canceled and audited, and no other is armed."""
    assert (await shop.attempt())["state"] == "requires_action"
    stripe_gate.freeze_at = None
    stripe_gate.thaw()

    query = "SELECT actor FROM audit_log WHERE action = 'recharge.cancel'"

    async def audited() -> bool:
        return await shop.pool.fetchval(query) is not None

    await until(audited)
    assert await shop.pool.fetchval(query) == actor
    await shop.work()
    assert [row["state"] for row in await shop.attempts()] == ["canceled"]


async def test_an_act_of_the_console_goes_on_after_its_deadline(
    gated: Settings, pool: Pool, shop: Shop, stripe_gate: Gate
) -> None:
    path = f"/console/attempts/{await open_attempt(shop)}"
    deadlines = ExpiringDeadlines()
    async with open_browser(pool, gated, deadlines=deadlines) as browser:
        await browser.sign_in()
        await browser.get(path)
        request = asyncio.create_task(browser.submit(f"{path}/cancel", reason="by invoice"))
        await reached(stripe_gate)
        deadlines.expire()
        assert (await request).status == 504
        await assert_canceled_for_good(shop, stripe_gate, "console:admin key 0")


async def test_a_request_to_the_api_goes_on_after_its_deadline(
    gated: Settings, pool: Pool, client: aiohttp.ClientSession, shop: Shop, stripe_gate: Gate
) -> None:
    attempt = await open_attempt(shop)
    path = f"/v1/billing/{shop.owner.id}/auto-recharge/attempts/{attempt}/cancel"
    deadlines = ExpiringDeadlines()
    async with serve_api(gated, pool, client, deadlines=deadlines) as bare:
        key = await bare.make_key()
        request = asyncio.create_task(key.post(path, {}, idempotency_key="k"))
        await reached(stripe_gate)
        deadlines.expire()
        assert (await request).status == 504
        await assert_canceled_for_good(shop, stripe_gate, "key:admin key")
        again = await key.post(path, {}, idempotency_key="k")
        assert (again.status, again.json["state"]) == (200, "canceled")
