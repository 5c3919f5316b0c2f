"""The page of the audit log."""

from __future__ import annotations

from shared.access import service as access
from shared.organizations.model import Organization
from tests.fixtures.console import ConsoleBrowser

AUDIT = "/console/audit"
ENTRIES = "Audit entries"


async def write(browser: ConsoleBrowser, count: int, organization: Organization) -> None:
    async with browser.pool.acquire() as connection:
        for number in range(count):
            await access.record(
                connection,
                actor="cli:ops@prepaid",
                action="grants.create",
                subject=f"subject {number}",
                organization_id=organization.id,
                reason="<script>alert(1)</script>",
                details={"note": "<b>bold</b>"},
            )


async def test_entries_are_listed_newest_first_and_escaped(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await write(operator, 2, organization)
    page = await operator.get(AUDIT)
    rows = page.rows(ENTRIES)
    assert [row[2] for row in rows] == ["grants.create", "grants.create", "console.sign_in"]
    assert rows[0][3].startswith("subject 1")
    assert rows[0][4] == "<script>alert(1)</script>"
    assert "<b>bold</b>" in rows[0][5]
    assert page.soup.find_all(["script", "b"]) == []


async def test_entries_are_filtered_by_actor_organization_and_day(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await write(operator, 1, organization)
    for query in ("actor=cli:ops@prepaid", f"organization={organization.slug}"):
        rows = (await operator.get(f"{AUDIT}?{query}")).rows(ENTRIES)
        assert [row[2] for row in rows] == ["grants.create"]
    assert len((await operator.get(f"{AUDIT}?since=2020-01-01")).rows(ENTRIES)) == 2
    page = await operator.get(f"{AUDIT}?since=2999-01-01")
    assert "No entries match." in page.text


async def test_the_next_page_goes_on_after_the_last_entry_and_keeps_the_filter(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await write(operator, 60, organization)
    first = await operator.get(f"{AUDIT}?actor=cli:ops@prepaid")
    second = await operator.get(str(first.one("a[rel=next]")["href"]))
    subjects = [row[3].split()[1] for page in (first, second) for row in page.rows(ENTRIES)]
    assert subjects == [str(number) for number in reversed(range(60))]
    assert second.soup.select("a[rel=next]") == []


async def test_what_is_wrong_in_a_filter_is_said(operator: ConsoleBrowser) -> None:
    for query, status in (
        ("cursor=x", 400),
        ("cursor=WzFd", 400),
        ("cursor=" + "x" * 5_000, 400),
        ("since=yesterday", 400),
        ("organization=nobody", 404),
        ("page=1000000", 200),
    ):
        assert (await operator.get(f"{AUDIT}?{query}")).status == status, query


async def test_a_bound_session_sees_the_entries_of_its_organization(
    stranger: ConsoleBrowser, organization: Organization
) -> None:
    await write(stranger, 1, organization)
    async with stranger.pool.acquire() as connection:
        await access.record(connection, actor="a", action="keys.create", subject="x")
    await stranger.sign_in("read", organization)
    rows = (await stranger.get(f"{AUDIT}?organization=another")).rows(ENTRIES)
    assert [row[2] for row in rows] == ["console.sign_in", "grants.create"]
