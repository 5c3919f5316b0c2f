"""A session that is bound to one organization, on every page, with the ids of another one."""

from __future__ import annotations

from collections.abc import Mapping

from console.pages import PAGES
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.ledger import grant, post
from tests.fixtures.outbound_messages import add, announce
from tests.fixtures.product import create_organization
from tests.fixtures.recharging import Shop

BOUND = [page for page in PAGES if page.for_bound_keys]
TABLES = (
    "accounts", "credit_transactions", "credit_grants", "recharge_attempts", "auto_recharges",
    "outbound_messages", "organizations",
)  # fmt: skip


async def ids_of(browser: ConsoleBrowser, shop: Shop) -> dict[str, str]:
    """Give the shop's organization one thing of each kind that a path names."""
    await shop.open("pm_card_visa")
    (made,) = await post(browser.pool, grant(shop.owner, 10, description="their note"))
    await add(browser.pool, "https://app.example.com/hooks")
    (message,) = await announce(browser.pool, shop.owner, balance=5)
    return {
        "organization": str(shop.owner.id),
        "grant": str(made.id),
        "transaction": str(made.id),
        "message": str(message.id),
        "attempt": str((await shop.attempt())["id"]),
    }


async def stored(browser: ConsoleBrowser) -> Mapping[str, list[str]]:
    """Return the rows of what an act would change."""
    return {
        table: [
            row[0]
            for row in await browser.pool.fetch(
                f"SELECT t::text FROM {table} AS t ORDER BY 1"  # noqa: S608 - the names above
            )
        ]
        for table in TABLES
    }


async def test_no_page_shows_or_changes_what_is_of_another_organization(
    stranger: ConsoleBrowser, shop: Shop
) -> None:
    theirs = await ids_of(stranger, shop)
    own = await create_organization(stranger.pool, "intruder")
    overview = await stranger.sign_in("admin", own)
    form = overview.form("/console/sign-out") | {
        "reason": "curious", "amount": "5", "adjustment": "5", "priority": "1",
        "key": theirs["grant"],
    }  # fmt: skip
    before = await stored(stranger)
    for page in BOUND:
        path = page.path.format(**theirs)
        if page.method == "POST":
            answer = await stranger.post(path, form)
        else:
            answer = await stranger.get(path)
        assert answer.status == (404 if path != page.path else 200), page.path
        shown = answer.html.replace(path, "")
        found = [value for value in (*theirs.values(), "their note") if value in shown]
        assert found == [], page.path
    assert await stored(stranger) == before


async def test_filters_and_search_of_a_bound_session_find_nothing_of_another_organization(
    stranger: ConsoleBrowser, shop: Shop
) -> None:
    theirs = await ids_of(stranger, shop)
    await stranger.sign_in("admin", await create_organization(stranger.pool, "intruder"))
    for word in (*theirs.values(), shop.owner.slug):
        for query in ("search?q", "attempts?organization", "audit?organization", "organizations?q"):
            page = await stranger.get(f"/console/{query}={word}")
            assert page.status == 200, query
            links = {str(link["href"]) for link in page.soup.select("main a")}
            assert not [link for link in links if any(one in link for one in theirs.values())]
