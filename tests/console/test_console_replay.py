"""Previews, replays and discards of events in the console."""

from __future__ import annotations

from decimal import Decimal

import pytest

from console.pages import dead_letters
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.product import SLUG, balance, create_organization, event_states
from tests.fixtures.storefront import Storefront

EVENTS = "/console/events"
CAUSES = "/console/dead-letters"
CAUSE = f"{CAUSES}/cause?type=payment_intent.succeeded&error_class=UnknownOrganizationError"
HOSTILE = "<script>alert(1)</script>&\"'"
TABLES = ("stripe_events", "credit_transactions", "accounts", "audit_log", "replay_batches")


async def dead(storefront: Storefront, count: int = 1) -> list[str]:
    """Let payments die for want of an organization, and create it; return the events."""
    for _ in range(count):
        await storefront.charge(metadata={"organization_id": SLUG})
    await storefront.deliver_new()
    rows = await storefront.pool.fetch(
        "SELECT id FROM stripe_events WHERE state = 'dead' ORDER BY received_at, id"
    )
    assert len(rows) == count
    await create_organization(storefront.pool)
    return [row["id"] for row in rows]


async def states(browser: ConsoleBrowser) -> set[str]:
    """Return the states of the events that mean something."""
    return set((await event_states(browser.pool)).values()) - {"ignored"}


async def contents(browser: ConsoleBrowser) -> dict[str, str]:
    """Return what the tables hold."""
    return {
        table: await browser.pool.fetchval(
            f"SELECT coalesce(string_agg(t::text, ';' ORDER BY t::text), '') FROM {table} AS t"  # noqa: S608
        )
        for table in TABLES
    }


async def test_a_preview_shows_the_difference_and_changes_nothing(
    stripe_operator: ConsoleBrowser, storefront: Storefront
) -> None:
    event = (await dead(storefront))[0]
    before = await contents(stripe_operator)
    page = await stripe_operator.get(f"{EVENTS}/{event}/replay")
    (row,) = page.rows("What would change")
    after = Decimal(row[2])
    assert (row[0], row[1], row[3]) == ("acme", "0", f"purchase {after}")
    assert after > 0
    assert await contents(stripe_operator) == before


async def test_an_event_is_replayed_with_a_reason(
    stripe_operator: ConsoleBrowser, storefront: Storefront
) -> None:
    event = (await dead(storefront))[0]
    await stripe_operator.get(f"{EVENTS}/{event}/replay")
    page = await stripe_operator.submit(f"{EVENTS}/{event}/replay", reason="acme exists now")
    assert page.one(".flash").get_text() == "Replayed: 1 applied, 0 without effect, 0 failed."
    assert page.title == event
    assert await balance(stripe_operator.pool) > 0
    history = page.rows("History")
    assert ["replay finished", "console:admin key 0", "acme exists now"] in [
        step[1:] for step in history
    ]
    row = await stripe_operator.pool.fetchrow(
        "SELECT * FROM audit_log WHERE action = 'events.replay'"
    )
    assert row is not None
    assert (row["actor"], row["reason"]) == ("console:admin key 0", "acme exists now")
    assert str(row["key_id"]) == stripe_operator.keys[0]["id"]
    assert row["request_id"] is not None


async def test_a_replay_that_fails_says_why(
    stripe_operator: ConsoleBrowser, storefront: Storefront
) -> None:
    event = (await dead(storefront))[0]
    await storefront.pool.execute("UPDATE organizations SET slug = 'other'")
    page = await stripe_operator.get(f"{EVENTS}/{event}/replay")
    assert page.rows("What would fail")[0][0] == event
    page = await stripe_operator.submit(f"{EVENTS}/{event}/replay", reason="try")
    assert f"1 failed. {event}:" in page.one(".flash.failed").get_text()


async def test_an_event_is_discarded_once(
    stripe_operator: ConsoleBrowser, storefront: Storefront
) -> None:
    event = (await dead(storefront))[0]
    await stripe_operator.get(f"{EVENTS}/{event}/replay")
    assert stripe_operator.page is not None
    fields = stripe_operator.page.form(f"{EVENTS}/{event}/discard") | {
        "reason": "a test of somebody"
    }
    page = await stripe_operator.post(f"{EVENTS}/{event}/discard", fields)
    assert "Discarded: a test of somebody" in page.text
    assert ["events.discard", "console:admin key 0"] in [s[1:3] for s in page.rows("History")]
    assert (await stripe_operator.post(f"{EVENTS}/{event}/discard", fields)).status == 409
    count = "SELECT count(*) FROM audit_log WHERE action = 'events.discard'"
    assert await stripe_operator.pool.fetchval(count) == 1


async def test_dead_letters_are_grouped_by_cause(
    stripe_operator: ConsoleBrowser, storefront: Storefront
) -> None:
    assert "There are no dead letters." in (await stripe_operator.get(CAUSES)).text
    await dead(storefront, 3)
    ((cause, count, *_, step),) = (await stripe_operator.get(CAUSES)).rows("Causes")
    assert (cause, count) == ("UnknownOrganizationError payment_intent.succeeded", "3")
    assert "docs/runbook.md#unknown-organization" in step
    assert stripe_operator.page is not None
    link = stripe_operator.page.one('a[href^="/console/dead-letters/cause"]')["href"]
    assert (await stripe_operator.get(str(link))).title.startswith("UnknownOrganizationError")


async def test_a_cause_is_replayed_as_it_was_previewed(
    stripe_operator: ConsoleBrowser, storefront: Storefront
) -> None:
    await dead(storefront, 3)
    page = await stripe_operator.get(CAUSE)
    ((_, before, after, rows, *_),) = page.rows("What would change")
    assert (before, rows.count("purchase")) == ("0", 3)
    page = await stripe_operator.submit(f"{CAUSES}/replay", reason="acme exists now")
    assert "Replayed 3: 3 applied" in page.one(".flash").get_text()
    assert await balance(stripe_operator.pool) == Decimal(after)
    assert await states(stripe_operator) == {"applied"}
    assert (await stripe_operator.get(CAUSE)).status == 404


async def test_the_same_form_sent_twice_replays_only_what_it_previewed(
    stripe_operator: ConsoleBrowser, storefront: Storefront, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "REPLAYED_EVENTS_MAX", 2)
    *previewed, other = await dead(storefront, 3)
    page = await stripe_operator.get(CAUSE)
    fields = page.form(f"{CAUSES}/replay") | {"reason": "acme exists now"}
    page = await stripe_operator.post(f"{CAUSES}/replay", fields)
    assert "Replayed 2: 2 applied" in page.one(".flash").get_text()
    after = await contents(stripe_operator)
    assert (await stripe_operator.post(f"{CAUSES}/replay", fields)).status == 409
    assert await contents(stripe_operator) == after
    found = await event_states(stripe_operator.pool)
    assert [found[each] for each in (*previewed, other)] == ["applied", "applied", "dead"]


async def test_a_form_replays_no_event_of_another_cause_and_no_more_than_a_page_previews(
    stripe_operator: ConsoleBrowser, storefront: Storefront, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dead(storefront, 2)
    page = await stripe_operator.get(CAUSE)
    fields = page.form(f"{CAUSES}/replay") | {"reason": "x"}
    other = fields | {"error_class": "MalformedEventError"}
    assert (await stripe_operator.post(f"{CAUSES}/replay", other)).status == 409
    monkeypatch.setattr(dead_letters, "REPLAYED_EVENTS_MAX", 1)
    assert (await stripe_operator.post(f"{CAUSES}/replay", fields)).status == 422
    assert await states(stripe_operator) == {"dead"}


async def test_a_cause_is_discarded_with_a_reason(
    stripe_operator: ConsoleBrowser, storefront: Storefront
) -> None:
    await dead(storefront, 2)
    await stripe_operator.get(CAUSE)
    page = await stripe_operator.submit(f"{CAUSES}/discard", reason="not ours")
    assert page.one(".flash").get_text() == "2 discarded."
    assert await states(stripe_operator) == {"discarded"}


async def test_a_viewer_may_neither_preview_nor_act(
    viewer: ConsoleBrowser, storefront: Storefront
) -> None:
    event = (await dead(storefront))[0]
    page = await viewer.get(f"{EVENTS}/{event}")
    assert page.status == 200
    assert page.soup.select('a[href$="/replay"]') == []
    csrf = {"csrf": str(page.soup.select('input[name="csrf"]')[0]["value"]), "reason": "x"}
    before = await contents(viewer)
    for path in (f"{EVENTS}/{event}/replay", CAUSE):
        assert (await viewer.get(path)).status == 403
    for path in (
        f"{EVENTS}/{event}/replay",
        f"{EVENTS}/{event}/discard",
        f"{CAUSES}/replay",
        f"{CAUSES}/discard",
    ):
        assert (await viewer.post(path, csrf)).status == 403
    assert await contents(viewer) == before


async def test_an_act_without_its_form_is_refused(
    stripe_operator: ConsoleBrowser, storefront: Storefront
) -> None:
    event = (await dead(storefront))[0]
    for path in (
        f"{EVENTS}/{event}/replay",
        f"{EVENTS}/{event}/discard",
        f"{CAUSES}/replay",
        f"{CAUSES}/discard",
    ):
        page = await stripe_operator.post(path, {"reason": "x", "csrf": "stale"})
        assert (page.status, "Nothing was changed" in page.text) == (403, True)
    assert await states(stripe_operator) == {"dead"}


async def test_html_in_a_cause_is_shown_escaped(
    stripe_operator: ConsoleBrowser, storefront: Storefront
) -> None:
    await dead(storefront)
    await stripe_operator.pool.execute(
        "UPDATE stripe_events SET type = $1, error_class = $1, reason = $1, id = $1"
        " WHERE state = 'dead'",
        HOSTILE,
    )
    page = await stripe_operator.get(CAUSES)
    assert page.soup.find_all("script") == []
    link = page.one('a[href^="/console/dead-letters/cause"]')["href"]
    page = await stripe_operator.get(str(link))
    assert (page.status, page.title) == (200, f"{HOSTILE}: {HOSTILE}")
    assert page.soup.find_all("script") == []
