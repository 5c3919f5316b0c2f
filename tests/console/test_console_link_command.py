"""`prepaid console link`."""

from __future__ import annotations

import pytest

from shared.organizations.model import Organization
from tests.fixtures.commands import Command
from tests.fixtures.console import ConsoleBrowser


@pytest.mark.parametrize("role", ["operate", "view"])
async def test_the_command_prints_a_link_that_signs_in_once(
    stranger: ConsoleBrowser, prepaid: Command, role: str
) -> None:
    made = await prepaid(
        "console", "link", "--role", role, "--json", PREPAID_PUBLIC_URL=stranger.url
    )
    assert (made.code, made.json["role"]) == (0, role)
    path = made.json["url"].removeprefix(stranger.url)
    await stranger.get(path)
    assert (await stranger.submit(path)).title == "Overview"
    rows = await stranger.pool.fetch("SELECT actor, action FROM audit_log ORDER BY at, id")
    assert [row["action"] for row in rows] == ["console.link", "console.sign_in"]
    assert rows[1]["actor"] == f"console:{rows[0]['actor']}"
    await stranger.get(path)
    assert (await stranger.submit(path)).status == 403


async def test_a_link_may_be_for_one_organization(
    stranger: ConsoleBrowser, prepaid: Command, organization: Organization
) -> None:
    arguments = ("console", "link", "--organization", organization.slug)
    made = await prepaid(*arguments, PREPAID_PUBLIC_URL=stranger.url)
    path = made.stdout.strip().removeprefix(stranger.url)
    await stranger.get(path)
    await stranger.submit(path)
    assert (await stranger.get("/console/keys")).status == 404


async def test_a_link_for_an_unknown_organization_is_refused(prepaid: Command) -> None:
    refused = await prepaid("console", "link", "--organization", "nobody")
    assert refused.code == 1
