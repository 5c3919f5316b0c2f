"""An operator's walk through the console, in a browser, on real processes and the simulator.

PREPAID_SCREENSHOTS=1 writes the pictures of docs/images.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import aiohttp
import pytest_asyncio
from playwright.async_api import Page, expect

from sandbox.product import WebProcess, WorkerProcess
from sandbox.signed_events import signature
from sandbox.stripe.process import SimulatorProcess
from shared.access import service as access
from shared.organizations import service as organizations
from shared.recharge import service as recharge
from tests.fixtures.ledger import grant, post, usage
from tests.fixtures.page_checks import HEIGHT, WIDTHS, CheckedPage
from tests.fixtures.product import SECRET_NEW, environment, event_row, payment, until
from tests.fixtures.recharging import TOP, agree

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

IMAGES = Path(__file__).parents[2] / "docs/images"
PICTURE_WIDTH = 1300


@dataclass
class Installation:
    """Prepaid's processes, with a key of an operator."""

    pool: Pool
    url: str
    http: aiohttp.ClientSession
    key: str

    async def deliver(self, name: str, organization: str) -> None:
        """Deliver the event of a payment of 10.00, as Stripe does."""
        body = payment(name, organization=organization)
        headers = {"Stripe-Signature": signature(body, SECRET_NEW)}
        async with self.http.post(
            f"{self.url}/v1/webhooks/stripe", data=body, headers=headers
        ) as answer:
            assert answer.status == 200

    async def use(self, organization: str, amount: int) -> None:
        """Use credits, as the customer's app does."""
        async with self.http.post(
            f"{self.url}/api/credit-transactions",
            json={"organizationId": organization, "amount": -amount, "note": "inference"},
            headers={"Authorization": f"Bearer {self.key}"},
        ) as answer:
            assert answer.status == 200, await answer.text()

    async def dead(self, event_id: str) -> bool:
        row: Any = await self.pool.fetchrow("SELECT 1 FROM stripe_events WHERE state = 'dead'")
        return row is not None and (await event_row(self.pool, event_id))["state"] == "dead"


@pytest_asyncio.fixture
async def installation(
    database_url: str, redis_url: str, pool: Pool, stand_in: SimulatorProcess, tmp_path: Path
) -> AsyncIterator[Installation]:
    """Start web, worker and simulator."""
    variables = environment(database_url, redis_url) | {"STRIPE_API_BASE": stand_in.url}
    web = WebProcess(variables, tmp_path / "web.log")
    worker = WorkerProcess(variables, tmp_path / "worker.log")
    async with pool.acquire() as connection:
        made = await access.create_key(
            connection, name="operator", scope="admin", organization_id=None
        )
    try:
        await web.start()
        await worker.start()
        async with aiohttp.ClientSession() as http:
            yield Installation(pool, web.url, http, made["key"])
    finally:
        await web.stop()
        await worker.stop()


async def suspended_customer(pool: Pool, now: datetime) -> Organization:
    """Create an organization with a history, whose auto-recharge is suspended."""
    async with pool.acquire() as connection, connection.transaction():
        made = await organizations.create(
            connection, slug="initech", name="Initech", email="billing@initech.example"
        )
    for amount in (40, 25):
        await post(pool, grant(made, amount, priority=amount))
        for used in (3, 6, 4):
            await post(pool, usage(made, used, description="inference", category="inference"))
    await agree(pool, made, TOP, now=now)
    async with pool.acquire() as connection, connection.transaction():
        await recharge.suspend_by_operator(
            connection, made.id, actor="test", reason="unusual use", now=now
        )
    return made


async def picture(page: Page, name: str) -> None:
    """Write a picture for the documentation, where they are asked for."""
    if os.environ.get("PREPAID_SCREENSHOTS"):
        IMAGES.mkdir(exist_ok=True)
        await page.set_viewport_size({"width": PICTURE_WIDTH, "height": HEIGHT})
        end: float = await page.evaluate(
            "document.querySelector('main').lastElementChild.getBoundingClientRect().bottom + 32"
        )
        height = min(end, HEIGHT)
        await page.screenshot(
            path=IMAGES / f"console-{name}.png",
            clip={"x": 0, "y": 0, "width": PICTURE_WIDTH, "height": height},
        )
        await page.set_viewport_size({"width": WIDTHS[-1], "height": HEIGHT})


async def open_link(checked: CheckedPage, name: str, *, among: str = "main") -> None:
    """Follow a link of the page, and check the page that it leads to."""
    links = checked.page.locator(among).get_by_role("link", name=name, exact=True)
    await links.first.click()
    await checked.page.wait_for_load_state()
    await checked.check()


async def do_act(page: Page, label: str, reason: str, *, is_open: bool = False) -> None:
    """Open the form of an act, give a reason, and send it."""
    act = page.locator("details.act", has=page.get_by_text(f"{label}…", exact=True))
    if not is_open:
        await act.locator("summary").click()
    await act.get_by_label("Reason").fill(reason)
    await act.get_by_role("button", name=label).click()


async def test_an_operator_walks_through_the_console(
    installation: Installation, browser_page: Page
) -> None:
    checked = CheckedPage(browser_page)
    checked.listen()
    await suspended_customer(installation.pool, datetime.now(UTC))
    await installation.deliver("walk", "globex")
    await until(lambda: installation.dead("evt_walk"))
    await sign_in(checked, installation)
    await replay_a_dead_letter(checked, installation)
    await explain_a_debit(checked, installation)
    await resume_an_organization(checked)
    await look_at_the_rest(checked)
    await browser_page.get_by_role("button", name="Sign out").click()
    await expect(browser_page.get_by_role("heading", name="Sign in")).to_be_visible()
    await browser_page.go_back()
    await browser_page.reload()
    await expect(browser_page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert checked.problems == [], "\n".join(checked.problems)
    assert checked.origins == {installation.url}


async def sign_in(checked: CheckedPage, installation: Installation) -> None:
    page = checked.page
    await page.goto(f"{installation.url}/console")
    await checked.check()
    await page.get_by_label("API key").fill(installation.key)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    await checked.check()
    await checked.check_focus()


async def resume_an_organization(checked: CheckedPage) -> None:
    page = checked.page
    await open_link(checked, "Organizations", among="#navigation")
    await page.get_by_label("Auto-recharge").select_option("suspended")
    await page.get_by_role("button", name="Filter").click()
    await open_link(checked, "Initech")
    await expect(page.locator(".figures")).to_contain_text("39")
    await picture(page, "organization")
    for tab in ("History", "Grants", "Holds", "Messages", "Audit log", "Auto-recharge"):
        await open_link(checked, tab)
    await expect(page.locator(".facts")).to_contain_text("operator: unusual use")
    await do_act(page, "Resume", "the customer confirmed the use")
    await expect(page.get_by_role("status")).to_have_text("Auto-recharge is resumed.")
    await expect(page.locator(".facts .badge")).to_have_text("active")
    await open_link(checked, "Audit log")
    await expect(page.locator("tbody tr").first).to_contain_text("the customer confirmed the use")


async def replay_a_dead_letter(checked: CheckedPage, installation: Installation) -> None:
    """Find the event of a payment of an organization that did not exist; create and credit it."""
    page = checked.page
    await open_link(checked, "Dead letters", among="#navigation")
    await expect(page.get_by_role("table")).to_contain_text("payment_intent.succeeded")
    await picture(page, "dead-letters")
    await open_link(checked, "evt_walk")
    await expect(page.locator(".problem")).to_contain_text("globex")
    async with installation.pool.acquire() as connection, connection.transaction():
        await organizations.create(connection, slug="globex", name="Globex")
    await open_link(checked, "Preview a replay")
    row = page.locator("tbody tr")
    await expect(row).to_contain_text("globex")
    assert [text.strip() for text in await row.locator(".number").all_inner_texts()] == ["0", "10"]
    await picture(page, "replay")
    await do_act(page, "Replay", "the organization exists now")
    await expect(page.get_by_role("status")).to_be_visible()
    await expect(page.locator(".facts .badge").first).to_have_text("applied")
    await checked.check()
    await open_link(checked, "globex")
    await expect(page.locator(".figures dd").first).to_have_text("10")
    await page.get_by_text("Give a promotional grant…").click()
    await page.get_by_label("Amount in credits", exact=True).fill("2")
    await page.get_by_label("Priority").fill("10")
    await do_act(page, "Give a promotional grant", "an apology for the delay", is_open=True)
    await expect(page.locator(".figures dd").first).to_have_text("12")


async def explain_a_debit(checked: CheckedPage, installation: Installation) -> None:
    """Follow a debit to its payment and to the event that was replayed."""
    page = checked.page
    await installation.use("globex", 4)
    await page.reload()
    await expect(page.locator(".figures dd").first).to_have_text("8")
    await open_link(checked, "History")
    await open_link(checked, "3")
    boxes = [" ".join(text.split()) for text in await page.locator(".step").all_inner_texts()]
    assert boxes[:4] == [
        "Grant grant #2 0 of 2 left",
        "Payment promotional Stripe has no payment of this grant.",
        "Grant purchase #1 8 of 10 left",
        "PaymentIntent pi_walk 10.00 USD",
    ]
    assert boxes[-1] == "Event evt_walk payment_intent.succeeded, applied"
    await picture(page, "transaction")
    await open_link(checked, "purchase #1")
    await expect(page.get_by_role("table")).to_contain_text("2")


async def look_at_the_rest(checked: CheckedPage) -> None:
    """Check the pages of the navigation that the walk has not opened."""
    page = checked.page
    links = page.locator("#navigation a")
    for address in [str(await link.get_attribute("href")) for link in await links.all()]:
        await page.goto(urljoin(page.url, address))
        await checked.check()
