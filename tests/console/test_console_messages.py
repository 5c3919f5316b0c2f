"""The pages of outbound messages and of their endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.outbound_messages import add, announce, states
from tests.fixtures.product import create_organization

if TYPE_CHECKING:
    from shared.organizations.model import Organization

MESSAGES = "/console/messages"
ENDPOINTS = "/console/endpoints"
HOSTILE = "<script>alert(1)</script>&\"'"
URL = "https://app.example.com/hooks"
HTML_MAX = 400_000


async def dead(browser: ConsoleBrowser, organization: Organization, count: int = 1) -> list[str]:
    """Let messages die; return the paths of their pages."""
    await add(browser.pool, URL)
    messages = await announce(browser.pool, organization, count, balance=5)
    await browser.pool.execute(
        "UPDATE outbound_messages SET state = 'dead', reason = 'the receiver answered 500',"
        " last_status = 500, attempts = 9, settled_at = now()"
    )
    return [f"{MESSAGES}/{message.id}" for message in messages]


async def test_messages_are_listed_and_filtered(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await dead(operator, organization, 60)
    for query, count in {
        "": 50,
        "state=dead": 50,
        "state=pending": 0,
        "type=credits.low": 50,
        "type=dispute.opened": 0,
        "organization=acme": 50,
    }.items():
        assert len((await operator.get(f"{MESSAGES}?{query}")).rows("Messages")) == count, query
    page = await operator.get(f"{MESSAGES}?state=dead")
    page = await operator.get(str(page.one('a[rel="next"]')["href"]))
    assert len(page.rows("Messages")) == 10
    for wrong in ("state=lost", "type=none", "cursor=1000000"):
        assert (await operator.get(f"{MESSAGES}?{wrong}")).status == 400


async def test_a_message_is_replayed_and_discarded_with_a_reason(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    (path,) = await dead(operator, organization)
    page = await operator.get(path)
    assert page.rows("Deliveries")[0][:4] == [URL, "dead", "9", "500"]
    page = await operator.submit(f"{path}/replay", reason="the app is back")
    assert page.rows("Deliveries")[0][1] == "pending"
    page = await operator.submit(f"{path}/discard", reason="not needed")
    assert page.rows("Deliveries")[0][1] == "discarded"
    rows = await operator.pool.fetch(
        "SELECT action, reason FROM audit_log WHERE action LIKE 'messages.%' ORDER BY at"
    )
    assert [tuple(row) for row in rows] == [
        ("messages.replay", "the app is back"),
        ("messages.discard", "not needed"),
    ]


async def test_the_dead_messages_are_replayed_together(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await dead(operator, organization, 3)
    await operator.get(f"{MESSAGES}?state=dead&type=credits.low")
    page = await operator.submit(f"{MESSAGES}/replay-dead", reason="the app is back")
    assert page.one(".flash").get_text() == "3 will be sent again."
    assert await states(operator.pool) == {"pending": 3}


async def test_the_dead_messages_of_one_organization_are_replayed_alone(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    other = await create_organization(operator.pool, "other")
    await dead(operator, organization, 3)
    await announce(operator.pool, other, 2)
    await operator.pool.execute(
        "UPDATE outbound_messages SET state = 'dead', reason = 'x', settled_at = now()"
    )
    page = await operator.get(f"{MESSAGES}?state=dead&organization=acme")
    assert "The dead messages of the organization acme are sent again" in page.text
    page = await operator.submit(f"{MESSAGES}/replay-dead", reason="the app is back")
    assert page.one(".flash").get_text() == "3 will be sent again."
    pending = await operator.pool.fetch(
        "SELECT DISTINCT organization_id FROM outbound_messages WHERE state = 'pending'"
    )
    assert [row["organization_id"] for row in pending] == [organization.id]
    details = await operator.pool.fetchval(
        "SELECT details FROM audit_log WHERE action = 'messages.replay'"
    )
    assert details["filter"]["organization_id"] == str(organization.id)


async def test_an_endpoint_is_removed_with_a_reason(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    made = await add(operator.pool, URL)
    await announce(operator.pool, organization, 2)
    page = await operator.get(ENDPOINTS)
    assert page.rows("Endpoints")[0][:4] == [URL, "active", "all", "2"]
    assert made.secret not in page.html
    action = f"{ENDPOINTS}/{made.endpoint.id}/remove"
    page = await operator.submit(action, reason="moved")
    assert page.one(".flash").get_text() == "Removed; 2 pending messages are discarded."
    assert page.rows("Endpoints")[0][1].startswith("disabled")


async def test_html_in_a_message_is_shown_escaped_and_a_long_payload_cut(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    (path,) = await dead(operator, organization)
    await operator.pool.execute("UPDATE outbound_messages SET reason = $1, payload = $1", HOSTILE)
    await operator.pool.execute(
        "UPDATE webhook_endpoints SET url = $1 || $2, description = $2", URL, HOSTILE
    )
    for shown in (MESSAGES, path, ENDPOINTS):
        page = await operator.get(shown)
        assert (page.status, page.soup.find_all("script")) == (200, [])
        assert HOSTILE in page.text
    await operator.pool.execute("UPDATE outbound_messages SET payload = $1", "x" * 10_000_000)
    page = await operator.get(path)
    assert (page.status, len(page.html) < HTML_MAX, "10.0 MB" in page.text) == (200, True, True)


async def test_a_bound_key_sees_the_messages_of_its_organization_alone(
    stranger: ConsoleBrowser, organization: Organization
) -> None:
    (path,) = await dead(stranger, organization)
    await stranger.sign_in("read", organization)
    page = await stranger.get(path)
    assert (page.status, page.soup.select(".act")) == (200, [])
    for hidden in (MESSAGES, ENDPOINTS, f"{MESSAGES}/{uuid4()}", f"{MESSAGES}/none"):
        assert (await stranger.get(hidden)).status == 404
    await stranger.sign_in("admin", await create_organization(stranger.pool, "other"))
    assert (await stranger.get(path)).status == 404
    assert stranger.page is not None
    csrf = str(stranger.page.one('form[action="/console/sign-out"] input')["value"])
    for act in ("replay", "discard"):
        fields = {"csrf": csrf, "reason": "x"}
        assert (await stranger.post(f"{path}/{act}", fields)).status == 404
