"""The pages of recharge attempts, and of customers who must authenticate."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from console.framework.page import Page
from console.pages import PAGES
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.product import create_organization
from tests.fixtures.recharging import Shop

ATTEMPTS = "/console/attempts"
WAITING = "/console/requires-action"
HOSTILE = "<script>alert(1)</script>&\"'"
CHALLENGE = "pm_card_authenticationRequired"


async def attempt_of(shop: Shop, card: str = "pm_card_visa", *, work: bool = True) -> UUID:
    """Arm an attempt and let a worker take it; return its id."""
    await shop.open(card)
    if work:
        await shop.charger.work()
    found: UUID = (await shop.attempt())["id"]
    return found


async def test_an_attempt_is_a_timeline_with_its_ledger_row(
    operator: ConsoleBrowser, shop: Shop
) -> None:
    attempt = await attempt_of(shop)
    ((organization, state, amount, *_),) = (await operator.get(ATTEMPTS)).rows("Attempts")
    assert (organization, state) == ("acme threshold", "succeeded")
    assert "20" in amount
    page = await operator.get(f"{ATTEMPTS}/{attempt}")
    labels = [each.get_text() for each in page.soup.select(".timeline strong")]
    assert sorted(labels) == ["armed", "charging", "credited", "succeeded"]
    assert "recharge of 20" in page.text
    assert page.soup.select(".act") == []


async def test_a_decline_says_whose_it_is(operator: ConsoleBrowser, shop: Shop) -> None:
    attempt = await attempt_of(shop, "pm_card_chargeCustomerFail")
    page = await operator.get(f"{ATTEMPTS}/{attempt}")
    assert "The customer's bank declined the charge." in page.text
    assert "generic_decline" in page.text


async def test_attempts_are_filtered_by_state_and_organization(
    operator: ConsoleBrowser, shop: Shop
) -> None:
    attempt = await attempt_of(shop, work=False)
    assert len((await operator.get(ATTEMPTS)).rows("Live attempts")) == 1
    await create_organization(operator.pool, "other")
    for query, count in {
        "state=armed": 1,
        "state=failed": 0,
        "organization=acme": 1,
        "organization=other": 0,
        "organization=acme&state=armed": 1,
    }.items():
        assert len((await operator.get(f"{ATTEMPTS}?{query}")).rows("Attempts")) == count, query
    assert (await operator.get(f"{ATTEMPTS}?state=lost")).status == 400
    assert (await operator.get(f"{ATTEMPTS}?cursor=1000000")).status == 400
    assert (await operator.get(f"{ATTEMPTS}/{uuid4()}")).status == 404
    assert (await operator.get(f"{ATTEMPTS}/{attempt}")).status == 200


async def test_a_page_says_how_many_attempts_it_looks_through(
    operator: ConsoleBrowser, shop: Shop
) -> None:
    await attempt_of(shop, work=False)
    page = await operator.get(f"{ATTEMPTS}?state=failed")
    assert "No attempt matches among those searched." in page.text
    assert "A page looks through 2,000 attempts." in page.text
    assert "looks through" not in (await operator.get(f"{ATTEMPTS}?state=armed")).text


async def test_a_live_attempt_is_canceled_with_a_reason(
    operator: ConsoleBrowser, shop: Shop
) -> None:
    attempt = await attempt_of(shop, work=False)
    await operator.get(f"{ATTEMPTS}/{attempt}")
    page = await operator.submit(f"{ATTEMPTS}/{attempt}/cancel", reason="the customer called")
    assert page.one(".flash").get_text() == "The attempt is canceled."
    row = await operator.pool.fetchrow("SELECT * FROM audit_log WHERE action = 'recharge.cancel'")
    assert row is not None
    assert (row["actor"], row["reason"]) == ("console:admin key 0", "the customer called")
    assert row["request_id"] is not None


async def test_a_suspension_is_resumed_with_a_reason(operator: ConsoleBrowser, shop: Shop) -> None:
    attempt = await attempt_of(shop)
    await operator.pool.execute(
        "UPDATE auto_recharges SET state = 'suspended', reason = 'operator', detail = 'x'"
    )
    await operator.get(f"{ATTEMPTS}/{attempt}")
    action = f"{ATTEMPTS}/{attempt}/resume"
    assert operator.page is not None
    fields = operator.page.form(action) | {"reason": "trusted again"}
    page = await operator.post(action, fields)
    assert page.one(".flash").get_text() == "Auto-recharge of acme is resumed."
    assert (await shop.settings()).state == "active"
    assert (await operator.post(action, fields)).status == 409


async def test_a_customer_who_must_authenticate_gets_a_new_link(
    operator: ConsoleBrowser, shop: Shop
) -> None:
    assert "No customer has to authenticate." in (await operator.get(WAITING)).text
    attempt = await attempt_of(shop, CHALLENGE)
    page = await operator.get(WAITING)
    assert page.rows("Needs authentication")[0][0].startswith("acme")
    before = (await shop.attempt())["link_sha256"]
    page = await operator.submit(f"{WAITING}/{shop.owner.id}/link", reason="lost")
    assert "/pay/" in page.one(".flash").get_text()
    assert (await shop.attempt())["link_sha256"] != before
    page = await operator.get(f"{ATTEMPTS}/{attempt}")
    assert "recharge.link" in page.text
    assert "console:admin key 0: lost" in page.text
    assert "The customer: the bank requires authentication." in page.text


async def test_a_bound_key_sees_the_attempts_of_its_organization_alone(
    stranger: ConsoleBrowser, shop: Shop
) -> None:
    attempt = await attempt_of(shop, CHALLENGE)
    other = await create_organization(stranger.pool, "other")
    await stranger.sign_in("admin", other)
    for path in (ATTEMPTS, f"{ATTEMPTS}?organization=acme", WAITING):
        page = await stranger.get(path)
        assert (page.status, "acme" in page.text) == (200, False)
    assert (await stranger.get(f"{ATTEMPTS}/{attempt}")).status == 404
    fields = {"csrf": str(page.one('form[action="/console/sign-out"] input')["value"])}
    for path in (
        f"{ATTEMPTS}/{attempt}/cancel",
        f"{ATTEMPTS}/{attempt}/resume",
        f"{WAITING}/{shop.owner.id}/link",
    ):
        assert (await stranger.post(path, fields | {"reason": "x"})).status == 404
    await stranger.sign_in("admin", shop.owner)
    assert (await stranger.get(f"{ATTEMPTS}/{attempt}")).status == 200


async def test_html_in_an_attempt_is_shown_escaped(operator: ConsoleBrowser, shop: Shop) -> None:
    attempt = await attempt_of(shop, "pm_card_chargeCustomerFail")
    names: tuple[str, ...] = (
        "reason", "detail", "decline_code", "network_advice", "payment_intent_id", "customer_id",
        "payment_method_id", "payment_method_type", "blocked_by",
    )  # fmt: skip
    values: dict[str, Any] = dict.fromkeys(names, HOSTILE)
    columns = ", ".join(f"{name} = ${number}" for number, name in enumerate(values, 1))
    await operator.pool.execute(f"UPDATE recharge_attempts SET {columns}", *values.values())  # noqa: S608
    for path in (ATTEMPTS, f"{ATTEMPTS}/{attempt}"):
        page = await operator.get(path)
        assert (page.status, page.soup.find_all("script")) == (200, [])
        assert HOSTILE in page.text


@pytest.mark.parametrize("page", [p for p in PAGES if p.method == "POST"], ids=lambda p: p.path)
async def test_a_viewer_may_not_act(viewer: ConsoleBrowser, page: Page) -> None:
    shown = await viewer.get("/console/keys")
    csrf = str(shown.one('form[action="/console/sign-out"] input')["value"])
    path = page.path.replace("{", "").replace("}", "")
    assert (await viewer.post(path, {"csrf": csrf, "reason": "x"})).status == 403
    assert (await viewer.post(path, {"csrf": "stale", "reason": "x"})).status == 403
