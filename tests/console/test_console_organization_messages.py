"""The messages of one organization among those of others: a page names nothing of theirs."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from console.framework import paging
from shared.organizations.model import Organization
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.outbound_messages import add, announce
from tests.fixtures.product import create_organization

URLS = ("https://app.example.com/hooks", "https://app.example.com/others")


async def test_a_page_of_a_bound_session_and_its_cursor_name_no_message_of_others(
    stranger: ConsoleBrowser, organization: Organization
) -> None:
    other = await create_organization(stranger.pool, "other")
    for url in URLS:
        await add(stranger.pool, url)
    own = await announce(stranger.pool, organization, paging.ROWS_MAX)
    theirs = await announce(stranger.pool, other, paging.ROWS_MAX)
    await stranger.sign_in("read", organization)
    page = await stranger.get(f"/console/organizations/{organization.id}/messages")
    shown, cursors = list[list[str]](), 0
    while True:
        shown += page.rows("Messages")
        assert not any(str(message.id) in page.html for message in theirs)
        following = page.soup.select_one("a[rel=next]")
        if following is None:
            break
        address = str(following["href"])
        position = paging.decode(dict(parse_qsl(urlsplit(address).query)), datetime, UUID, UUID)
        assert position is not None
        assert position[1] in {message.id for message in own}
        cursors += 1
        page = await stranger.get(address)
    assert cursors == 1
    assert len(shown) == len(own) * len(URLS)
    assert {row[2] for row in shown} == set(URLS)


async def test_a_quiet_organization_has_one_empty_page(
    stranger: ConsoleBrowser, organization: Organization
) -> None:
    await add(stranger.pool, URLS[0])
    await announce(
        stranger.pool, await create_organization(stranger.pool, "other"), paging.ROWS_MAX + 1
    )
    await stranger.sign_in("read", organization)
    page = await stranger.get(f"/console/organizations/{organization.id}/messages")
    assert page.rows("Messages") == []
    assert "There are no messages." in page.text
    assert page.soup.select("a[rel=next]") == []
