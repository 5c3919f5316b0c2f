"""The page on which a customer authenticates, over HTTP, against the Stripe simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer

from api.pay.page import REQUESTS_BURST, PayPage
from sandbox.stripe.process import SimulatorProcess
from shared.http.server import create_app
from shared.payments.client import stripe_client
from shared.payments.model import SaleTerms
from shared.payments.payment_intents import PaymentIntentGateway
from shared.recharge.flow import Charger
from shared.recharge.model import Trigger
from tests.fixtures.product import Answer, balance, closed_port
from tests.fixtures.recharging import TOP, Shop

if TYPE_CHECKING:
    from shared.db.pool import Pool


@dataclass
class Page:
    """The page served on the test's own database, and the shop whose payment it is about."""

    url: str
    shop: Shop
    links: list[str]
    session: aiohttp.ClientSession

    @property
    def link(self) -> str:
        return f"/pay/{self.links[0]}"

    async def get(self, path: str | None = None) -> Answer:
        return await self._call("GET", path or self.link)

    async def post(self, path: str | None = None) -> Answer:
        return await self._call("POST", path or self.link)

    async def authenticate(self, *, passed: bool = True) -> None:
        """Answer the bank's page, as the simulator has it."""
        attempt = await self.shop.attempt()
        path = f"/_sim/payment_intents/{attempt['payment_intent_id']}/authenticate"
        async with self.shop.session.post(path, json={"passed": passed}) as answer:
            assert answer.status == (200 if passed else 400)

    async def _call(self, method: str, path: str) -> Answer:
        async with self.session.request(method, self.url + path, allow_redirects=False) as response:
            return Answer(response.status, response.headers, await response.read())


@pytest_asyncio.fixture
async def page(
    pool: Pool, shop: Shop, stand_in: SimulatorProcess, client: aiohttp.ClientSession
) -> AsyncIterator[Page]:
    """Serve the page of a recharge that the bank wants the customer for."""
    links: list[str] = []

    def make_link() -> str:
        links.append(uuid4().hex)
        return links[-1]

    shop.charger = replace(shop.charger, make_link=make_link)
    pay = PayPage(pool, shop.charger.gateway, "https://credits.test", stand_in.url, now=shop.clock)
    server = TestServer(create_app(pay.routes()))
    await server.start_server(access_log=None)
    await shop.open("pm_card_authenticationRequired")
    await shop.work()
    assert (await shop.attempt())["state"] == "requires_action"
    yield Page(str(server.make_url("")).rstrip("/"), shop, links, client)
    await server.close()


async def test_the_page_says_who_asks_for_how_much_and_changes_nothing(page: Page) -> None:
    before = await page.shop.attempt()
    answer = await page.get()
    text = answer.body.decode()
    assert answer.status == 200
    assert "20.00 USD" in text
    assert "acme" in text
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "<script" not in text
    assert await page.shop.attempt() == before


async def test_a_customer_who_authenticates_has_paid_once(page: Page) -> None:
    sent = await page.post()
    assert sent.status == 303
    assert "/authenticate/" in sent.headers["Location"]
    await page.authenticate()
    done = await page.get(f"{page.link}/done")
    assert (done.status, "complete" in done.body.decode()) == (200, True)
    await page.shop.charger.work()  # the page has rung: it is due
    assert (await page.shop.attempt())["state"] == "succeeded"
    assert await balance(page.shop.pool) == 27
    assert await page.shop.captures() == [2000]
    again = await page.post()
    assert (again.status, "already complete" in again.body.decode()) == (410, True)
    assert (await page.get(f"{page.link}/done")).status == 200


async def test_a_second_click_leads_to_the_same_bank_page(page: Page) -> None:
    first, second = await page.post(), await page.post()
    assert first.headers["Location"] == second.headers["Location"]
    await page.authenticate()
    paid = await page.post()
    assert urlsplit(paid.headers["Location"]).path == f"{page.link}/done"
    await page.shop.work()
    assert await page.shop.captures() == [2000]


async def test_who_fails_at_the_bank_may_try_again(page: Page) -> None:
    await page.post()
    await page.authenticate(passed=False)
    done = await page.get(f"{page.link}/done")
    assert (done.status, "Try again" in done.body.decode()) == (200, True)
    await page.shop.work()
    assert (await page.shop.attempt())["state"] == "requires_action"
    assert (await page.post()).status == 303
    await page.authenticate()
    await page.shop.work()
    assert await page.shop.captures() == [2000]


async def test_a_link_that_is_too_old_says_so_and_charges_nothing(page: Page) -> None:
    page.shop.clock.now += timedelta(hours=24)
    for answer in (await page.get(), await page.post()):
        assert (answer.status, "link has expired" in answer.body.decode()) == (410, True)
    await page.shop.work()
    gone = await page.get(f"{page.link}/done")
    assert (gone.status, "was canceled" in gone.body.decode()) == (410, True)
    assert await page.shop.captures() == []


@pytest.mark.parametrize("token", ["unknown", "a" * 5000, "%00", "%C3%A9", "..%2F.."])
async def test_an_unknown_link_is_not_found(page: Page, token: str) -> None:
    for answer in (await page.get(f"/pay/{token}"), await page.post(f"/pay/{token}")):
        assert (answer.status, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")


async def test_a_hostile_name_is_text(page: Page) -> None:
    await page.shop.pool.execute(
        "UPDATE organizations SET name = $1", '"><script>alert(1)</script>'
    )
    text = (await page.get()).body.decode()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


async def test_the_page_says_how_many_credits_and_why_now(page: Page) -> None:
    text = (await page.get()).body.decode()
    assert "<dt>Credits</dt><dd>20</dd>" in text
    assert (
        "Your balance fell below 10 credits, so auto-recharge buys 20 credits."
        " Your bank asks you to confirm this payment."
    ) in text


async def test_a_rule_that_changed_since_is_not_named(page: Page) -> None:
    await page.shop.agree(replace(TOP, threshold=Decimal(5)))
    text = (await page.get()).body.decode()
    assert "Your balance fell below the limit that you set" in text
    assert "below 5" not in text


@pytest.mark.parametrize(
    ("trigger", "needed", "words"),
    [
        (Trigger.SCHEDULE, None, "Your scheduled recharge of 20 credits is due."),
        (Trigger.TOP_UP, None, "You are buying 20 credits."),
        (Trigger.THRESHOLD, Decimal(1), "Your balance did not cover 1 credit that was needed, so"),
        (Trigger.THRESHOLD, Decimal(15), "Your balance did not cover 15 credits that were needed"),
    ],
)
async def test_each_cause_of_a_payment_has_its_sentence(
    page: Page, trigger: Trigger, needed: Decimal | None, words: str
) -> None:
    await page.shop.pool.execute(
        "UPDATE recharge_attempts SET trigger = $1, needed = $2", trigger, needed
    )
    assert words in (await page.get()).body.decode()


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        ("processing", 200, "The payment is being processed"),
        ("succeeded", 410, "This payment is already complete"),
        ("failed", 410, "This payment failed"),
        ("canceled", 410, "This payment was canceled"),
    ],
)
async def test_each_state_names_the_payment_and_takes_no_form(
    page: Page, state: str, status: int, words: str
) -> None:
    await page.shop.pool.execute(
        "UPDATE recharge_attempts SET state = $1, due_at = now() + interval '1 day',"
        " settled_at = CASE WHEN $1 = 'processing' THEN NULL ELSE now() END",
        state,
    )
    for answer in (await page.get(), await page.post()):
        text = answer.body.decode()
        assert (answer.status, words in text, "20.00 USD" in text) == (status, True, True)
        assert "<form" not in text


async def test_while_stripe_is_away_the_page_asks_to_come_back(page: Page, pool: Pool) -> None:
    away = f"http://127.0.0.1:{closed_port()}"
    async with stripe_client("sk_test_x", away) as client:
        pay = PayPage(pool, PaymentIntentGateway(client), "https://credits.test", away)
        server = TestServer(create_app(pay.routes()))
        await server.start_server(access_log=None)
        page.url = str(server.make_url("")).rstrip("/")
        for answer in (await page.post(), await page.get(f"{page.link}/done")):
            assert (answer.status, "few minutes" in answer.body.decode()) == (502, True)
        await server.close()


async def test_the_link_is_in_no_log(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    await page.get()
    await page.get(f"{page.link}/nothing")
    await page.post()
    said = capsys.readouterr()
    assert page.links[0] not in said.out + said.err


async def test_a_charger_with_other_credits_makes_the_same_page(page: Page) -> None:
    """What is shown is what Stripe was asked for, not what a rule says by now."""
    page.shop.charger = Charger(
        page.shop.pool,
        page.shop.charger.gateway,
        SaleTerms(Decimal(10)),
        Decimal(1),
        "https://credits.test",
    )
    assert "20.00 USD" in (await page.get()).body.decode()


async def test_one_link_has_stripe_asked_so_often_and_no_more(page: Page) -> None:
    answers = [await page.get(f"{page.link}/done") for _ in range(REQUESTS_BURST + 3)]
    assert [answer.status for answer in answers].count(429) == 3
    async with page.shop.session.get("/_sim/requests") as answer:
        requests = (await answer.json())["data"]
    intent = (await page.shop.attempt())["payment_intent_id"]
    asked = [r for r in requests if (r["method"], r["path"][-len(intent) :]) == ("GET", intent)]
    assert len(asked) <= REQUESTS_BURST
