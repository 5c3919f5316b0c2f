"""A browser runs no script in a page of the console, and shows it in no frame."""

from __future__ import annotations

import pytest_asyncio
from playwright.async_api import Page, Route, expect

from tests.fixtures.console import ConsoleBrowser

INJECTED = (
    "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"
    "<style>h1 { color: rgb(1, 2, 3) }</style><p id=last>injected</p>"
)


@pytest_asyncio.fixture
async def signed_in(operator: ConsoleBrowser, browser_page: Page) -> Page:
    await browser_page.goto(f"{operator.url}/console")
    await browser_page.get_by_label("API key").fill(operator.keys[0]["key"])
    await browser_page.get_by_role("button", name="Sign in").press("Enter")
    await expect(browser_page.get_by_role("heading", level=1)).to_have_text("Overview")
    return browser_page


async def test_what_is_injected_into_a_page_neither_runs_nor_styles(
    signed_in: Page, operator: ConsoleBrowser
) -> None:
    async def inject(route: Route) -> None:
        answer = await route.fetch()
        html = (await answer.text()).replace("</main>", f"{INJECTED}</main>")
        await route.fulfill(response=answer, body=html)

    refused: list[str] = []
    signed_in.on("console", lambda message: refused.append(message.text))
    await signed_in.route("**/console/keys", inject)
    await signed_in.goto(f"{operator.url}/console/keys")
    await expect(signed_in.locator("#last")).to_have_text("injected")
    assert await signed_in.evaluate("window.ran") is None
    color = await signed_in.locator("h1").evaluate("node => getComputedStyle(node).color")
    assert color != "rgb(1, 2, 3)"
    assert sum("Content Security Policy" in text for text in refused) >= len(("script", "style"))


async def test_a_page_is_shown_in_no_frame(signed_in: Page, operator: ConsoleBrowser) -> None:
    async def frame(route: Route) -> None:
        await route.fulfill(
            body=f"<iframe src='{operator.url}/console/keys'></iframe>", content_type="text/html"
        )

    await signed_in.route("**/framing", frame)
    # The framing page has the console's own address, so that the session's cookie is sent.
    await signed_in.goto(f"{operator.url}/framing")
    (framed,) = signed_in.main_frame.child_frames
    await expect(framed.locator("body")).to_be_attached()
    assert "API keys" not in await framed.content()
    assert framed.url.startswith("chrome-error:")
