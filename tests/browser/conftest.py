"""A real headless Chromium, driven by Playwright."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import BrowserContext, Page, async_playwright

from tests.fixtures.machine import program

WAIT_MS_MAX = 15_000


@pytest_asyncio.fixture
async def context(tmp_path: Path) -> AsyncIterator[BrowserContext]:
    """Open a browser without a past."""
    chromium = program("chromium", "chromium-browser", package="chromium")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium refuses to be root with one
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=sandbox)
        opened = await browser.new_context()
        opened.set_default_timeout(WAIT_MS_MAX)
        yield opened
        await browser.close()


@pytest_asyncio.fixture
async def browser_page(context: BrowserContext) -> Page:
    """Open a page."""
    return await context.new_page()
