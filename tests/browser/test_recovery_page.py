"""A customer whose bank wants them, in a browser: from the link to the credit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest_asyncio
from aiohttp.test_utils import TestServer, unused_port
from playwright.async_api import Page, expect

from api.pay.page import PayPage
from sandbox.stripe.process import SimulatorProcess
from shared.http.server import create_app
from tests.fixtures.product import balance
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    from shared.db.pool import Pool

LINK = "the-link-that-was-sent"


@dataclass
class Bank:
    """A recharge that waits for its customer, and the page that they were sent to."""

    shop: Shop
    url: str
    problems: list[str]


@pytest_asyncio.fixture
async def bank(
    pool: Pool, shop: Shop, stand_in: SimulatorProcess, browser_page: Page
) -> AsyncIterator[Bank]:
    port = unused_port()
    address = f"http://127.0.0.1:{port}"
    shop.charger = replace(shop.charger, make_link=lambda: LINK)
    pay = PayPage(pool, shop.charger.gateway, address, stand_in.url, now=shop.clock)
    server = TestServer(create_app(pay.routes()), port=port)
    await server.start_server(access_log=None)
    await shop.open("pm_card_authenticationRequired")
    await shop.work()
    problems: list[str] = []
    browser_page.on("pageerror", lambda error: problems.append(str(error)))
    # What the page's own policy forbids, a form's way to the bank among it, shows up here alone.
    browser_page.on(
        "console", lambda said: problems.append(said.text) if "Policy" in said.text else None
    )
    yield Bank(shop, f"{address}/pay/{LINK}", problems)
    await server.close()


async def test_a_customer_authenticates_and_is_credited(bank: Bank, browser_page: Page) -> None:
    await browser_page.goto(bank.url)
    await expect(browser_page.locator(".amount")).to_have_text("20.00 USD")
    await browser_page.get_by_role("button", name="Continue to your bank").click()
    await browser_page.get_by_role("button", name="Complete").click()
    await expect(browser_page.get_by_role("heading")).to_have_text(
        "Thank you, the payment is complete"
    )
    await bank.shop.charger.work()
    assert (await bank.shop.attempt())["state"] == "succeeded"
    assert await balance(bank.shop.pool) == 27
    await browser_page.goto(bank.url)
    await expect(browser_page.get_by_role("heading")).to_have_text(
        "This payment is already complete"
    )
    assert bank.problems == []


async def test_a_customer_who_fails_may_try_again(bank: Bank, browser_page: Page) -> None:
    await browser_page.goto(bank.url)
    await browser_page.get_by_role("button", name="Continue to your bank").click()
    await browser_page.get_by_role("button", name="Fail").click()
    await expect(browser_page.get_by_role("heading")).to_have_text("The payment is not complete")
    await browser_page.get_by_role("link", name="Try again").click()
    await browser_page.get_by_role("button", name="Continue to your bank").click()
    await browser_page.get_by_role("button", name="Complete").click()
    await expect(browser_page.get_by_role("heading")).to_have_text(
        "Thank you, the payment is complete"
    )
    assert await bank.shop.captures() == [2000]
    assert bank.problems == []
