"""The pages of Stripe's events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.product import create_organization, payment, receive
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.organizations.model import Organization

EVENTS = "/console/events"
HOSTILE = "<script>alert(1)</script>&\"'"
HTML_MAX = 400_000


def ids(browser: ConsoleBrowser) -> list[str]:
    """Return the events that the list shows, in its order."""
    assert browser.page is not None
    return [row[0].split()[0] for row in browser.page.rows("Events")]


async def dead(browser: ConsoleBrowser, drainer: Drainer, *names: str) -> None:
    """Let payments die, because their organization does not exist."""
    await receive(browser.pool, *(payment(name) for name in names))
    await drainer.drain()


async def test_a_dead_event_shows_whose_money_it_is_and_what_to_do(
    operator: ConsoleBrowser, drainer: Drainer
) -> None:
    await dead(operator, drainer, "1")
    page = await operator.get(EVENTS)
    (row,) = page.rows("Events")
    assert row[0].startswith("evt_1 payment_intent.succeeded")
    assert row[1].startswith("dead")
    assert (row[2], row[3]) == ("acme", "10 USD")
    assert "pi_1" in row[4]
    assert "Create the organization" in row[5]
    page = await operator.get(f"{EVENTS}/evt_1")
    assert page.title == "evt_1"
    assert "docs/runbook.md#unknown-organization" in page.text
    assert [step[1] for step in page.rows("History")] == ["created at Stripe", "received", "dead"]
    assert page.soup.select(".payload .key")


async def test_events_are_filtered_by_what_people_look_for(
    operator: ConsoleBrowser, drainer: Drainer, organization: Organization
) -> None:
    await dead(operator, drainer, "1")
    await receive(operator.pool, payment("2", organization="nobody"))
    await drainer.drain()
    for query, found in {
        "": ["evt_2", "evt_1"],
        "state=applied": ["evt_1"],
        "state=dead": ["evt_2"],
        "type=payment_intent.succeeded&since=1h": ["evt_2", "evt_1"],
        "type=charge.refunded": [],
        f"organization={organization.id}": ["evt_1"],
        "organization=acme": ["evt_1"],
        "object=pi_2": ["evt_2"],
        "object=pi_": [],
    }.items():
        page = await operator.get(f"{EVENTS}?{query}")
        assert (page.status, ids(operator)) == (200, found), query


async def test_a_wrong_filter_is_a_page_that_says_so(operator: ConsoleBrowser) -> None:
    for query, message in {
        "state=lost": "state: give one of",
        "since=soon": "since: give a time",
        "since=2999-01-01": "is in the future",
        "cursor=1000000": "not a cursor",
        "since=99999999d": "since: give a time",
        "since=0001-01-01T00:00:00%2B23:59": "since: give a time",
    }.items():
        page = await operator.get(f"{EVENTS}?{query}")
        assert (page.status, message in page.text) == (400, True), query
    assert (await operator.get(f"{EVENTS}?organization=nobody")).status == 404
    assert (await operator.get(f"{EVENTS}/evt_none")).status == 404


async def test_pages_of_events_end(operator: ConsoleBrowser) -> None:
    await receive(operator.pool, *(payment(str(number)) for number in range(60)))
    await operator.get(EVENTS)
    seen = ids(operator)
    assert operator.page is not None
    await operator.get(str(operator.page.one('a[rel="next"]')["href"]))
    seen += ids(operator)
    assert len(set(seen)) == len(seen) == 60
    assert operator.page.soup.select('a[rel="next"]') == []


async def test_html_in_an_event_is_shown_escaped(
    operator: ConsoleBrowser, drainer: Drainer
) -> None:
    await dead(operator, drainer, "1")
    payload = {"id": HOSTILE, "data": {"object": {
        "object": "payment_intent", "id": HOSTILE, "customer": HOSTILE, "amount": 5,
        "currency": HOSTILE, "metadata": {"organization_id": HOSTILE}, HOSTILE: HOSTILE,
    }}}  # fmt: skip
    await operator.pool.execute(
        "UPDATE stripe_events SET id = $1, type = $1, reason = $1, error_class = $1,"
        " error_trace = $1, discard_reason = $1, account = $1, api_version = $1, payload = $2",
        HOSTILE,
        msgspec.json.encode(payload).decode(),
    )
    page = await operator.get(EVENTS)
    assert page.status == 200
    assert page.soup.find_all("script") == []
    link = str(page.one("td a code").parent["href"])  # type: ignore[index]
    page = await operator.get(link)
    assert page.title == HOSTILE
    assert page.soup.find_all("script") == []
    assert page.text.count(HOSTILE) > 8


async def test_a_payload_of_ten_megabytes_is_cut(
    operator: ConsoleBrowser, drainer: Drainer
) -> None:
    await dead(operator, drainer, "1", "2")
    wide = msgspec.json.encode({"data": {"object": {f"k{n}": "v" * 900 for n in range(2_000)}}})
    await operator.pool.execute(
        "UPDATE stripe_events SET payload = CASE id WHEN 'evt_1' THEN $1 ELSE $2 END",
        wide.decode(),
        "x" * 10_000_000,
    )
    assert len((await operator.get(EVENTS)).html) < HTML_MAX
    page = await operator.get(f"{EVENTS}/evt_1")
    assert (page.status, len(page.html) < HTML_MAX, "1.8 MB" in page.text) == (200, True, True)
    page = await operator.get(f"{EVENTS}/evt_2")
    assert (page.status, len(page.html) < HTML_MAX, "10.0 MB" in page.text) == (200, True, True)


async def test_a_bound_key_has_no_page_of_events(
    stranger: ConsoleBrowser, organization: Organization
) -> None:
    await stranger.sign_in("admin", organization)
    for path in (EVENTS, f"{EVENTS}/evt_1", f"{EVENTS}/evt_1/replay", "/console/dead-letters"):
        assert (await stranger.get(path)).status == 404


async def test_an_event_that_waits_shows_its_next_attempt(operator: ConsoleBrowser) -> None:
    await create_organization(operator.pool)
    await receive(operator.pool, payment("1"))
    page = await operator.get(f"{EVENTS}/evt_1")
    assert "Next attempt" in page.text
