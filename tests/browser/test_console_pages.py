"""The console in a browser: keyboard, labels, contrast, narrow screens, no other host.

PREPAID_SCREENSHOTS=FOLDER writes a picture of each page at each width, light and dark.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import pytest_asyncio
from playwright.async_api import Page, Request, expect

from shared.organizations.model import Organization
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.product import payment, receive

PAGES = (
    "/console", "/console/keys", "/console/audit", "/console/settings",
    "/console/search?q=nothing", "/console/no-such-page", "/console/events",
    "/console/events/evt_one", "/console/dead-letters", "/console/attempts",
    "/console/requires-action", "/console/reconciliation", "/console/messages?state=dead",
    "/console/endpoints",
)  # fmt: skip
WIDTHS = (360, 800, 1400)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SCREENSHOTS = os.environ.get("PREPAID_SCREENSHOTS")
CONTRAST_MIN = 4.5

SAMPLES = """
INSERT INTO metric_samples (sampled_at, name, label, value)
SELECT date_trunc('minute', now()) - make_interval(mins => m), s.name, s.label,
    round((s.value * (1.5 + sin(m / 90.0)))::numeric, 3)
FROM generate_series(0, 1440, 10) AS m,
(VALUES ('events_received', '', 12), ('event_to_ledger_p50_seconds', '', 0.02),
    ('event_to_ledger_p99_seconds', '', 0.4), ('backlog', '', 3), ('dead', '', 1),
    ('recharge_outcomes', 'succeeded', 5), ('recharge_outcomes', 'failed', 1),
    ('credits_outstanding', '', 123456.5)) AS s (name, label, value)
"""

# Texts whose color is too near to the color behind them, with their contrast (WCAG 2.2, 1.4.3).
CONTRAST = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = color => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = node => {
    for (let at = node; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), low = [];
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement, text = texts.currentNode.data.trim();
    if (!text || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const color = node instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [luminance(rgba(color)), luminance(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < MIN) low.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return low;
}
""".replace("MIN", str(CONTRAST_MIN))

# What a screen reader would miss.
UNNAMED = """
() => [
  ...[...document.querySelectorAll('input:not([type=hidden]), select, textarea')]
    .filter(field => !field.labels.length).map(field => `no label: ${field.name}`),
  ...[...document.querySelectorAll('a, button, summary')]
    .filter(part => !part.textContent.trim()).map(part => `no name: ${part.outerHTML}`),
  ...[...document.querySelectorAll('h1, h2, h3, h4')].filter(part => part.closest('main'))
    .map(part => Number(part.tagName[1]))
    .filter((level, place, all) => place ? level > all[place - 1] + 1 : level !== 1)
    .map(level => `heading out of order: h${level}`),
  ...['main', 'h1'].filter(part => document.querySelectorAll(part).length !== 1),
  ...[...document.querySelectorAll('[id]')].map(part => part.id)
    .filter((id, place, all) => all.indexOf(id) !== place).map(id => `twice: #${id}`),
]
"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest_asyncio.fixture
async def signed_in(
    operator: ConsoleBrowser, organization: Organization, browser_page: Page
) -> Page:
    """Sign a browser in to a console with data."""
    await operator.pool.execute(SAMPLES)
    await receive(operator.pool, payment("one"))
    await operator.pool.execute(
        "UPDATE stripe_events SET state = 'dead', settled_at = now(),"
        " reason = 'The event names no organization that exists here.',"
        " error_class = 'UnknownOrganizationError'"
    )
    await browser_page.goto(f"{operator.url}/console")
    await browser_page.get_by_label("API key").fill(operator.keys[0]["key"])
    await browser_page.get_by_role("button", name="Sign in").press("Enter")
    await expect(browser_page.get_by_role("heading", level=1)).to_have_text("Overview")
    return browser_page


async def test_every_page_is_readable_named_and_as_wide_as_its_screen(
    signed_in: Page, operator: ConsoleBrowser
) -> None:
    hosts: set[str] = set()
    problems: list[Any] = []

    def note(request: Request) -> None:
        hosts.add(request.url.split("/")[2])

    signed_in.on("request", note)
    signed_in.on("pageerror", lambda error: problems.append(str(error)))
    for path in PAGES:
        await signed_in.goto(operator.url + path)
        problems += [(path, unnamed) for unnamed in await signed_in.evaluate(UNNAMED)]
        for scheme in SCHEMES:
            await signed_in.emulate_media(color_scheme=scheme)
            problems += [(path, scheme, low) for low in await signed_in.evaluate(CONTRAST)]
            for width in WIDTHS:
                await signed_in.set_viewport_size({"width": width, "height": 900})
                if over := await signed_in.evaluate(OVERFLOW):
                    problems.append((path, width, f"{over} px too wide"))
                await picture(signed_in, path, width, scheme)
    assert problems == []
    assert hosts == {operator.url.split("/")[2]}


async def picture(page: Page, path: str, width: int, scheme: str) -> None:
    """Write a screenshot where the environment asks for it."""
    if SCREENSHOTS is not None:
        name = path.partition("?")[0].strip("/").replace("/", "-")
        file = Path(SCREENSHOTS) / f"{name}-{width}-{scheme}.png"
        await page.screenshot(path=file, full_page=True)


async def test_the_console_is_walked_by_keyboard(signed_in: Page) -> None:
    await signed_in.keyboard.press("Tab")
    await expect(signed_in.get_by_role("link", name="Skip to the content")).to_be_focused()
    await signed_in.keyboard.press("Enter")
    assert signed_in.url.endswith("#main")
    link = signed_in.get_by_role("link", name="API keys", exact=True)
    await link.focus()
    width = await link.evaluate("node => getComputedStyle(node).outlineWidth")
    assert width == "3px"
    await signed_in.keyboard.press("Enter")
    await expect(signed_in.get_by_role("heading", level=1)).to_have_text("API keys")
    await expect(signed_in.get_by_role("navigation", name="Breadcrumbs")).to_contain_text("Console")


async def test_the_menu_of_a_narrow_screen_opens_and_closes_without_a_script(
    signed_in: Page,
) -> None:
    await signed_in.set_viewport_size({"width": 360, "height": 700})
    settings = signed_in.get_by_role("link", name="Settings")
    await expect(settings).to_be_hidden()
    await signed_in.get_by_role("button", name="Menu").press("Enter")
    await expect(settings).to_be_visible()
    await signed_in.keyboard.press("Escape")
    await expect(settings).to_be_hidden()
    await signed_in.get_by_role("button", name="Menu").press("Enter")
    await settings.press("Enter")
    await expect(signed_in.get_by_role("heading", level=1)).to_have_text("Settings")


async def test_a_key_is_revoked_by_keyboard(signed_in: Page, operator: ConsoleBrowser) -> None:
    await operator.make_key("usage")
    await signed_in.get_by_role("link", name="API keys", exact=True).click()
    row = signed_in.get_by_role("row").filter(has_text="usage key")
    await row.locator("summary").press("Enter")
    await row.get_by_label("Reason").fill("it leaked")
    await signed_in.keyboard.press("Enter")
    await expect(signed_in.get_by_role("status")).to_contain_text("is revoked")
