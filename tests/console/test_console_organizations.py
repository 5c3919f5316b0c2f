"""The list of organizations, and its search."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from console.pages import organizations as page_module
from shared.organizations import service as organizations
from shared.organizations.model import Organization
from shared.recharge import service as recharge
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.ledger import grant, hold, post
from tests.fixtures.recharging import TOP, agree

if TYPE_CHECKING:
    from shared.db.pool import Pool

LIST = "/console/organizations"
HOSTILE = "<script>alert(1)</script>&\"'<b>"


async def create(pool: Pool, slug: str, name: str, email: str | None = None) -> Organization:
    async with pool.acquire() as connection, connection.transaction():
        return await organizations.create(connection, slug=slug, name=name, email=email)


async def test_organizations_are_listed_newest_first_with_their_balance(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await post(operator.pool, grant(organization, "12.5"))
    await hold(operator.pool, organization, 2)
    await create(operator.pool, "umbrella", "Umbrella Corporation", "billing@umbrella.example")
    rows = (await operator.get(LIST)).rows("Organizations")
    assert [row[0].split()[-1] for row in rows] == ["umbrella", organization.slug]
    assert rows[0][1] == "billing@umbrella.example"
    assert rows[1][2:5] == ["12.5", "2", "off"]


@pytest.mark.parametrize("text", ["umbr", "CORPORATION", "billing@umbrella.example", "rella.ex"])
async def test_a_search_finds_a_part_of_slug_name_or_email(
    operator: ConsoleBrowser, organization: Organization, text: str
) -> None:
    await create(operator.pool, "umbrella", "Umbrella Corporation", "billing@umbrella.example")
    rows = (await operator.get(f"{LIST}?q={text}")).rows("Organizations")
    assert [row[0].split()[-1] for row in rows] == ["umbrella"]


@pytest.mark.parametrize("text", ["%25", "_", "%5C"])
async def test_a_search_takes_no_character_as_a_pattern(
    operator: ConsoleBrowser, organization: Organization, text: str
) -> None:
    page = await operator.get(f"{LIST}?q={text}")
    assert page.status == 200
    assert "No organization matches." in page.text


async def test_an_exact_id_slug_or_customer_opens_the_organization(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await operator.pool.execute("UPDATE organizations SET stripe_customer_id = 'cus_exact'")
    for text in (str(organization.id), organization.slug, "cus_exact"):
        page = await operator.get(f"{LIST}?q={text}")
        assert page.url.endswith(f"{LIST}/{organization.id}")
        assert page.title == organization.name


async def test_a_state_of_auto_recharge_filters(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await create(operator.pool, "other", "Other")
    await agree(operator.pool, organization, TOP, now=operator.clock())
    async with operator.pool.acquire() as connection, connection.transaction():
        await recharge.suspend_by_operator(
            connection, organization.id, actor="test", reason=HOSTILE, now=operator.clock()
        )
    rows = (await operator.get(f"{LIST}?state=suspended")).rows("Organizations")
    assert [row[4] for row in rows] == ["suspended operator"]
    rows = (await operator.get(f"{LIST}?state=off")).rows("Organizations")
    assert [row[0].split()[-1] for row in rows] == ["other"]


async def test_pages_go_on_from_the_last_organization(operator: ConsoleBrowser) -> None:
    await operator.pool.execute(
        "WITH made AS (INSERT INTO organizations (id, slug, name)"
        " SELECT gen_random_uuid(), 'org-' || n, 'Organization' FROM generate_series(1, 120) AS n"
        " RETURNING id) INSERT INTO accounts (organization_id) SELECT id FROM made"
    )
    page = await operator.get(LIST)
    slugs: list[str] = []
    while following := page.soup.select_one("a[rel=next]"):
        slugs += [row[0].split()[-1] for row in page.rows("Organizations")]
        page = await operator.get(str(following["href"]))
    slugs += [row[0].split()[-1] for row in page.rows("Organizations")]
    assert sorted(slugs) == sorted(f"org-{number}" for number in range(1, 121))


async def test_a_search_is_bounded_and_goes_on_in_the_next_page(
    operator: ConsoleBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "SEARCHED_MAX", 3)
    await create(operator.pool, "rare", "Rare")
    for number in range(5):
        await create(operator.pool, f"org-{number}", f"Organization {number}")
    page = await operator.get(f"{LIST}?q=rar")
    assert page.rows("Organizations") == []
    assert "3 organizations were searched. The next page goes on from there." in page.text
    page = await operator.get(str(page.one("a[rel=next]")["href"]))
    assert [row[0].split()[-1] for row in page.rows("Organizations")] == ["rare"]


@pytest.mark.parametrize("query", ["?cursor=1000000", "?cursor=!", "?q=x&cursor=W10"])
async def test_a_wrong_cursor_is_refused_with_a_sentence(
    operator: ConsoleBrowser, query: str
) -> None:
    page = await operator.get(LIST + query)
    assert page.status == 400
    assert "This is not a cursor of this list" in page.text


async def test_html_in_every_field_is_shown_escaped(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await operator.pool.execute("UPDATE organizations SET name = $1, email = $1", HOSTILE)
    page = await operator.get(LIST)
    assert HOSTILE in page.rows("Organizations")[0][0]
    assert page.soup.find_all(["script", "b"]) == []
    page = await operator.get(f"{LIST}?q={HOSTILE}".replace("&", "%26"))
    assert page.soup.find_all(["script", "b"]) == []


async def test_a_bound_session_goes_to_its_own_organization(
    stranger: ConsoleBrowser, organization: Organization
) -> None:
    other = await create(stranger.pool, "other", "Other")
    page = await stranger.sign_in("admin", organization)
    assert page.title == organization.name
    assert (await stranger.get(LIST)).title == organization.name
    assert (await stranger.get(f"{LIST}?q=other")).title == organization.name
    missing = await stranger.get(f"{LIST}/{uuid4()}")
    for reference in (str(other.id), other.slug):
        page = await stranger.get(f"{LIST}/{reference}")
        assert (page.status, page.text) == (404, missing.text)
