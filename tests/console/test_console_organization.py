"""The pages of one organization: balance, history, grants, holds, messages, audit log."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from console.pages import organization_lists
from shared.access import service as access
from shared.ids import new_id
from shared.organizations.model import Organization
from shared.outbound import service as outbound
from shared.outbound.model import MessageType, OutboundMessage
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.ledger import grant, hold, post, release, usage
from tests.fixtures.recharging import TOP, agree

HOSTILE = "<script>alert(1)</script>&\"'<b>"
TABS = (
    "",
    "/history",
    "/statement",
    "/grants",
    "/holds",
    "/budgets",
    "/recharge",
    "/messages",
    "/audit",
)
POINTS = "Balance over time"


def path(organization: Organization, tab: str = "") -> str:
    return f"/console/organizations/{organization.id}{tab}"


async def test_balance_held_and_spendable_are_shown(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await post(operator.pool, grant(organization, "1234.5"), usage(organization, "0.25"))
    await hold(operator.pool, organization, 34)
    page = await operator.get(path(organization))
    figures = [figure.get_text(" ", strip=True) for figure in page.soup.select(".figures > div")]
    assert figures == ["Balance 1,234.25", "Held 34", "Spendable 1,200.25"]


async def test_the_balance_is_drawn_in_steps_with_its_numbers(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    for posting in (grant(organization, 10), usage(organization, 3), usage(organization, 4)):
        await post(operator.pool, posting)
    page = await operator.get(path(organization))
    assert [row[1] for row in page.rows(POINTS)] == ["3", "3", "7", "10"]
    assert "V" in str(page.one(".chart path.s0")["d"])
    assert "last 3, lowest 3, highest 10" in str(page.one(".chart > svg")["aria-label"])


async def test_a_period_begins_with_the_balance_at_its_start(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await post(operator.pool, grant(organization, 10))
    await post(operator.pool, usage(organization, 3))
    operator.clock.moved = timedelta(minutes=50)
    assert len((await operator.get(path(organization, "?period=24h"))).rows(POINTS)) == 3
    async with operator.pool.acquire() as connection, connection.transaction():
        # Time is passed by moving the rows back; the trigger that protects them is off meanwhile.
        await connection.execute("ALTER TABLE credit_transactions DISABLE TRIGGER USER")
        await connection.execute(
            "UPDATE credit_transactions SET created_at = created_at - interval '3 days'"
        )
        await connection.execute("ALTER TABLE credit_transactions ENABLE TRIGGER USER")
    await post(operator.pool, usage(organization, 2))
    assert [
        row[1] for row in (await operator.get(path(organization, "?period=24h"))).rows(POINTS)
    ] == ["5", "5", "7"]
    assert len((await operator.get(path(organization))).rows(POINTS)) == 4


async def test_grants_are_shown_in_the_order_in_which_they_burn(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    later = operator.clock() + timedelta(days=30)
    await post(
        operator.pool,
        grant(organization, 40, priority=50),
        grant(organization, 20, priority=10, promotional=True),
        grant(organization, 10, priority=50, expires_at=later),
    )
    await post(operator.pool, usage(organization, 25))
    rows = (await operator.get(path(organization))).rows("Grants in burn order")
    assert [(row[0], row[3], row[4], row[5]) for row in rows] == [
        ("1", "5", "5", "10"),
        ("2", "40", "0", "40"),
    ]
    rows = (await operator.get(path(organization, "/grants"))).rows("Grants, newest first")
    assert [row[2:5] for row in rows] == [["5", "5", "10"], ["0", "20", "20"], ["40", "0", "40"]]
    rows = (await operator.get(path(organization, "/grants?which=open"))).rows(
        "Grants, newest first"
    )
    assert [row[2] for row in rows] == ["5", "40"]


async def test_a_bar_is_as_long_as_its_grant_and_filled_with_what_is_left(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await post(operator.pool, grant(organization, 40), grant(organization, 20))
    await post(operator.pool, usage(organization, 30))
    page = await operator.get(path(organization))
    bars = [
        (bar["aria-label"], [part["width"] for part in bar.select("rect")])
        for bar in page.soup.select("svg.burn")
    ]
    assert bars == [("10 of 40 left", ["199.0", "50.0"]), ("20 of 20 left", ["99.0", "100.0"])]


async def test_history_goes_on_in_pages(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await post(
        operator.pool, grant(organization, 1000), *(usage(organization, 1) for _ in range(60))
    )
    page = await operator.get(path(organization, "/history"))
    rows = page.rows("Transactions")
    assert [rows[0][0], rows[-1][0]] == ["61", "12"]
    page = await operator.get(str(page.one("a[rel=next]")["href"]))
    rows = page.rows("Transactions")
    assert [rows[0][0], rows[-1][0]] == ["11", "1"]
    assert page.soup.select("a[rel=next]") == []


@pytest.mark.parametrize(
    ("kind", "seqs"), [("usage", ["3", "2"]), ("grant", ["4", "1"]), ("dispute", [])]
)
async def test_history_is_filtered_by_type(
    operator: ConsoleBrowser, organization: Organization, kind: str, seqs: list[str]
) -> None:
    await post(
        operator.pool, grant(organization, 9), usage(organization, 1), usage(organization, 1),
        grant(organization, 9),
    )  # fmt: skip
    page = await operator.get(path(organization, f"/history?type={kind}"))
    assert [row[0] for row in page.rows("Transactions")] == seqs


async def test_a_filter_reads_a_bounded_number_of_rows_a_page(
    operator: ConsoleBrowser, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(organization_lists, "SEARCHED_MAX", 3)
    await post(operator.pool, grant(organization, 9), *(usage(organization, 1) for _ in range(5)))
    page = await operator.get(path(organization, "/history?type=hold_capture"))
    assert page.rows("Transactions") == []
    assert "3 transactions were searched" in page.text
    page = await operator.get(str(page.one("a[rel=next]")["href"]))
    assert page.soup.select("a[rel=next]") == []
    page = await operator.get(path(organization, "/history?type=grant"))
    assert [row[0] for row in page.rows("Transactions")] == ["1"]


async def test_history_is_filtered_by_day(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await post(operator.pool, grant(organization, 9), usage(organization, 1))
    today = operator.clock().date()
    for query, count in (
        (f"since={today}", 2),
        (f"until={today}", 2),
        (f"since={today + timedelta(days=2)}", 0),
        (f"until={today - timedelta(days=2)}", 0),
        (f"since={today}&until={today}&type=usage", 1),
        ("until=9999-12-31", 2),
    ):
        page = await operator.get(path(organization, f"/history?{query}"))
        assert len(page.rows("Transactions")) == count, query
    for query in ("since=yesterday", "type=nothing", "until=0000-01-01"):
        assert (await operator.get(path(organization, f"/history?{query}"))).status == 400, query


async def test_a_page_far_beyond_the_last_is_empty(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await post(operator.pool, grant(organization, 9))
    for tab in ("/history", "/grants", "/holds", "/messages", "/audit"):
        page = await operator.get(path(organization, f"{tab}?cursor=1000000"))
        assert page.status == 400, tab
        assert "This is not a cursor of this list" in page.text


async def test_holds_are_listed_by_state(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await post(operator.pool, grant(organization, 9))
    await hold(operator.pool, organization, 1)
    released = await hold(operator.pool, organization, 2)
    await release(operator.pool, organization, released.id)
    rows = (await operator.get(path(organization, "/holds"))).rows("Holds")
    assert [row[1:3] for row in rows] == [["released", "2"], ["active", "1"]]
    rows = (await operator.get(path(organization, "/holds?state=active"))).rows("Holds")
    assert [row[1] for row in rows] == ["active"]


async def announce(operator: ConsoleBrowser, organization: Organization) -> None:
    async with operator.pool.acquire() as connection, connection.transaction():
        await outbound.add_endpoint(
            connection, url="https://app.example.com/hooks", allow_private=False
        )
        message = OutboundMessage(
            organization_id=organization.id, type=MessageType.CREDITS_LOW, data={}, id=new_id(),
            at=operator.clock(),
        )  # fmt: skip
        await outbound.announce(connection, [message])


async def test_messages_of_the_organization_are_listed(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await announce(operator, organization)
    page = await operator.get(path(organization, "/messages"))
    assert [row[1:3] for row in page.rows("Messages")] == [
        ["pending", "https://app.example.com/hooks"]
    ]


async def test_html_in_every_stored_field_is_shown_escaped(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await agree(operator.pool, organization, TOP)
    fields = {"description": HOSTILE, "category": HOSTILE[:20], "user_id": HOSTILE}
    await post(
        operator.pool,
        grant(organization, 9, description=HOSTILE, metadata={HOSTILE: HOSTILE}),
        usage(organization, 1, **fields),
    )
    await hold(operator.pool, organization, 1, description=HOSTILE)
    await announce(operator, organization)
    async with operator.pool.acquire() as connection, connection.transaction():
        await access.record(
            connection, actor=HOSTILE, action="test", subject=HOSTILE,
            organization_id=organization.id, reason=HOSTILE, details={HOSTILE: HOSTILE},
        )  # fmt: skip
        for statement in (
            "UPDATE organizations SET name = $1, email = $1, stripe_customer_id = $1",
            "UPDATE outbound_messages SET reason = $1",
            "UPDATE auto_recharges SET detail = $1, consented_by = $1",
            "UPDATE auto_recharges SET state = 'suspended', reason = 'operator' WHERE detail = $1",
        ):
            await connection.execute(statement, HOSTILE)
    for tab in TABS:
        page = await operator.get(path(organization, tab))
        assert page.status == 200, tab
        assert page.soup.find_all(["script", "b"]) == [], tab
        assert HOSTILE in page.soup.get_text(), tab


async def test_a_bound_session_opens_the_pages_of_its_own_organization(
    stranger: ConsoleBrowser, organization: Organization
) -> None:
    await stranger.sign_in("read", organization)
    for tab in TABS:
        page = await stranger.get(path(organization, tab))
        assert page.status == 200, tab
        assert page.soup.select(".act") == [], tab


async def test_a_balance_of_many_digits_is_exact(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    amount = Decimal("123456789012345678.987654321")
    await post(operator.pool, grant(organization, amount))
    page = await operator.get(path(organization))
    assert "123,456,789,012,345,678.987654321" in page.one(".figures").get_text()
