"""The simulator's Checkout page in a browser: paying, and being declined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Page, expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import stripe


@pytest_asyncio.fixture
async def shop_url() -> AsyncIterator[str]:
    """Serve the merchant's page that Checkout leads back to."""

    async def thanks(_request: web.Request) -> web.Response:
        return web.Response(text="<h1>Thank you</h1>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/thanks", thanks)
    server = TestServer(app)
    await server.start_server(access_log=None)
    yield str(server.make_url("/thanks"))
    await server.close()


async def _checkout(stripe_api: stripe.StripeClient, success_url: str) -> str:
    session = await stripe_api.v1.checkout.sessions.create_async(
        {
            "mode": "payment",
            "success_url": success_url,
            "cancel_url": success_url,
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": "usd",
                        "unit_amount": 2500,
                        "product_data": {"name": "Prepaid credits"},
                    },
                }
            ],
        }
    )
    assert session.url is not None
    return session.url


async def test_a_buyer_pays_and_comes_back(
    stripe_api: stripe.StripeClient, shop_url: str, browser_page: Page
) -> None:
    await browser_page.goto(await _checkout(stripe_api, shop_url))
    await expect(browser_page.locator(".amount")).to_contain_text("25.00")
    await browser_page.get_by_label("Email").fill("buyer@example.com")
    await browser_page.get_by_label("Test card").fill("4242424242424242")
    await browser_page.get_by_role("button", name="Pay").click()
    await expect(browser_page.get_by_role("heading")).to_have_text("Thank you")


async def test_a_declined_buyer_may_use_another_card(
    stripe_api: stripe.StripeClient, shop_url: str, browser_page: Page
) -> None:
    await browser_page.goto(await _checkout(stripe_api, shop_url))
    await browser_page.get_by_label("Email").fill("buyer@example.com")
    await browser_page.get_by_label("Test card").fill("4000000000000002")
    await browser_page.get_by_role("button", name="Pay").click()
    await expect(browser_page.get_by_role("alert")).to_contain_text("declined")
    await browser_page.get_by_label("Email").fill("buyer@example.com")
    await browser_page.get_by_label("Test card").fill("4000002760003184")
    await browser_page.get_by_role("button", name="Pay").click()
    await browser_page.get_by_role("button", name="Complete").click()
    await expect(browser_page.get_by_role("heading")).to_have_text("Thank you")
