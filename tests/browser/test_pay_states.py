"""The pay page of each state in a browser: names, contrast, keyboard, width, hosts.

PREPAID_SCREENSHOTS=FOLDER writes a picture of each state at each width, light and dark.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Page, Route, expect

from shared.http.server import create_app
from shared.merchant_settings import MerchantSettings
from tests.fixtures.page_checks import HEIGHT, SCHEMES, WIDTHS, CheckedPage
from tests.fixtures.pay_pages import MERCHANT, PAYMENT, all_pages

SCREENSHOTS = os.environ.get("PREPAID_SCREENSHOTS")
LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="120" height="40">'
    '<rect width="40" height="40" rx="8" fill="#111"/>'
    '<path d="M56 12h56v16H56z" fill="#111"/></svg>'
)
LOGO_HOST = "https://cdn.example.com:8443"
LONG = PAYMENT.organization_name + "</dd><script>" + "w" * 90
MERCHANTS = {
    "plain": MerchantSettings(),
    "merchant": MERCHANT,
    "dark": replace(MERCHANT, colour="#111827", name="N" * 80, support="https://example.com/help"),
}


@pytest_asyncio.fixture
async def address() -> AsyncIterator[str]:
    """Serve each page under the merchant's key and its number, all with 200."""

    async def show(request: web.Request) -> web.Response:
        merchant = MERCHANTS[request.match_info["merchant"]]
        payment = PAYMENT if merchant is MERCHANT else replace(PAYMENT, organization_name=LONG)
        page = all_pages(merchant, payment)[int(request.match_info["number"])]
        page.set_status(200)  # a browser reports any other one as an error
        return page

    server = TestServer(create_app([web.get("/{merchant}/{number}", show)]))
    await server.start_server(access_log=None)
    yield str(server.make_url("")).rstrip("/")
    await server.close()


async def load_logo(route: Route) -> None:
    await route.fulfill(body=LOGO, content_type="image/svg+xml")


@pytest.mark.parametrize("merchant", ["plain", "dark"])
async def test_each_state_is_readable_named_and_as_wide_as_its_screen(
    merchant: str, address: str, browser_page: Page
) -> None:
    await browser_page.route(f"{LOGO_HOST}/**", load_logo)
    checked = CheckedPage(browser_page)
    checked.listen()
    for number in range(len(all_pages(MERCHANTS[merchant]))):
        await browser_page.goto(f"{address}/{merchant}/{number}")
        await checked.check()
        await picture(browser_page, f"{merchant}-{number}")
        await checked.check_focus()
    assert checked.problems == []
    assert checked.origins == {address} | ({LOGO_HOST} if MERCHANTS[merchant].logo else set())


async def test_the_logo_is_loaded_from_its_host_and_the_color_is_the_buttons(
    address: str, browser_page: Page
) -> None:
    await browser_page.route(f"{LOGO_HOST}/**", load_logo)
    await browser_page.goto(f"{address}/merchant/0")
    logo = browser_page.locator("img")
    assert await logo.evaluate("image => image.decode().then(() => image.naturalWidth)") == 120
    button = browser_page.get_by_role("button", name="Continue to your bank")
    for scheme in SCHEMES:
        await browser_page.emulate_media(color_scheme=scheme)
        await expect(button).to_have_css("background-color", "rgb(255, 238, 0)")
        await expect(button).to_have_css("color", "rgb(0, 0, 0)")


async def picture(page: Page, name: str) -> None:
    """Write screenshots where the environment asks for them."""
    if SCREENSHOTS is None:
        return
    for width in WIDTHS:
        for scheme in SCHEMES:
            await page.set_viewport_size({"width": width, "height": HEIGHT})
            await page.emulate_media(color_scheme=scheme)
            await page.screenshot(path=Path(SCREENSHOTS) / f"{name}-{width}-{scheme}.png")
