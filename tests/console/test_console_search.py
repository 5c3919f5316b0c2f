"""The search box: each kind of id leads to its page."""

from __future__ import annotations

from urllib.parse import quote

from shared.organizations.model import Organization
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.product import create_organization, payment, receive, transactions
from worker.drainer import Drainer


async def target(browser: ConsoleBrowser, text: str) -> str:
    """Return where a search leads to; nothing where it shows a list."""
    answer = await browser.get(f"/console/search?q={quote(text)}", follow=False)
    return answer.headers.get("Location", "")


async def credited(browser: ConsoleBrowser, drainer: Drainer, slug: str = "acme") -> str:
    """Credit a payment; return its PaymentIntent."""
    await receive(browser.pool, payment(f"of_{slug}", organization=slug))
    await drainer.drain()
    found: str = await browser.pool.fetchval(
        "SELECT p.payment_intent_id FROM stripe_payments AS p"
        " INNER JOIN organizations AS o ON p.organization_id = o.id WHERE o.slug = $1",
        slug,
    )
    return found


async def test_an_organization_is_found_by_id_slug_customer_and_address(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await operator.pool.execute(
        "UPDATE organizations SET stripe_customer_id = 'cus_1', email = 'ops@acme.test'"
    )
    page = f"/console/organizations/{organization.id}"
    for text in (str(organization.id), organization.slug, "cus_1", "ops@acme.test", " acme "):
        assert await target(operator, text) == page, text


async def test_an_event_is_found_by_its_id(operator: ConsoleBrowser) -> None:
    await receive(operator.pool, payment("one"))
    event_id = await operator.pool.fetchval("SELECT id FROM stripe_events")
    assert await target(operator, event_id) == f"/console/events/{event_id}"


async def test_a_payment_leads_to_its_organization_and_its_ledger_row(
    operator: ConsoleBrowser, organization: Organization, drainer: Drainer
) -> None:
    intent = await credited(operator, drainer)
    (row,) = await transactions(operator.pool)
    page = await operator.get(f"/console/search?q={intent}")
    assert [kind for kind, _ in page.rows("Found")] == ["payment of organization", "ledger row"]
    links = [str(link["href"]) for link in page.soup.select("td a")]
    assert links == [
        f"/console/organizations/{organization.id}",
        f"/console/transactions/ct_{row['id'].hex}",
    ]


async def test_a_ledger_row_is_found_by_both_forms_of_its_id(
    operator: ConsoleBrowser, organization: Organization, drainer: Drainer
) -> None:
    await credited(operator, drainer)
    (row,) = await transactions(operator.pool)
    for text in (str(row["id"]), f"ct_{row['id'].hex}"):
        assert await target(operator, text) == f"/console/transactions/ct_{row['id'].hex}"


async def test_a_dispute_leads_to_its_organization(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await operator.pool.execute(
        "INSERT INTO stripe_disputes (id, organization_id, payment_intent_id, amount_minor,"
        " currency, status, opened_at) VALUES ('dp_1', $1, 'pi_x', 1, 'usd', 'lost', now())",
        organization.id,
    )
    assert await target(operator, "dp_1") == f"/console/organizations/{organization.id}"


async def test_what_is_not_found_is_shown_escaped(operator: ConsoleBrowser) -> None:
    for text in ("<script>alert(1)</script>", "re_1", "x" * 5_000, "ct_zz", ""):
        page = await operator.get(f"/console/search?q={quote(text)}")
        assert page.status == 200
        assert page.soup.find_all("script") == []
    assert "Refunds are not stored" in (await operator.get("/console/search?q=re_1")).text


async def test_a_bound_session_finds_what_is_of_its_organization_alone(
    stranger: ConsoleBrowser, organization: Organization, drainer: Drainer
) -> None:
    await create_organization(stranger.pool, "globex")
    theirs = await credited(stranger, drainer, "globex")
    own = await credited(stranger, drainer)
    await stranger.sign_in("read", organization)
    assert len((await stranger.get(f"/console/search?q={own}")).rows("Found")) == 2
    for text in (theirs, "globex"):
        page = await stranger.get(f"/console/search?q={text}")
        assert page.rows("Found") == [], text
