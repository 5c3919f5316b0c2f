"""A real headless Chromium, driven by Playwright."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Playwright, async_playwright

from tests.fixtures.machine import program
from tests.fixtures.product import closed_port

WAIT_MS_MAX = 15_000


@pytest.fixture(scope="session")
def chromium(runner: asyncio.Runner) -> Iterator[str]:
    """Start Chromium once; return the address at which each test connects to it."""
    executable = program("chromium", "chromium-browser", package="chromium")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium refuses to be root with one
    port = closed_port()

    async def start() -> tuple[Playwright, Browser]:
        playwright = await async_playwright().start()
        browser = await playwright.chromium.launch(
            executable_path=executable, args=[*sandbox, f"--remote-debugging-port={port}"]
        )
        return playwright, browser

    async def stop() -> None:
        await browser.close()
        await playwright.stop()

    playwright, browser = runner.run(start())
    yield f"http://127.0.0.1:{port}"
    runner.run(stop())


@pytest_asyncio.fixture
async def context(chromium: str) -> AsyncIterator[BrowserContext]:
    """Open a browser without a past."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(chromium)
        opened = await browser.new_context()
        opened.set_default_timeout(WAIT_MS_MAX)
        yield opened
        await opened.close()


@pytest_asyncio.fixture
async def browser_page(context: BrowserContext) -> Page:
    """Open a page."""
    return await context.new_page()
