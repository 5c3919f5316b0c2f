"""Acts on an organization: auto-recharge, promotional grants, adjustments, voids."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from shared.ids import new_id
from shared.organizations import service as organizations
from shared.organizations.model import Organization
from shared.recharge import service as recharge
from tests.fixtures.console import ConsoleBrowser, ShownPage
from tests.fixtures.ledger import balances, grant, post, usage
from tests.fixtures.recharging import TOP, agree

HOSTILE = "<script>alert(1)</script>&\"'<b>"


def path(organization: Organization, end: str = "") -> str:
    return f"/console/organizations/{organization.id}{end}"


async def act(
    operator: ConsoleBrowser, organization: Organization, end: str, *, at: str = "", **fields: str
) -> ShownPage:
    """Fill in a form of a page, and send it."""
    await operator.get(path(organization, at))
    return await operator.submit(path(organization, end), follow=True, **fields)


async def audited(operator: ConsoleBrowser, action: str) -> list[dict[str, Any]]:
    rows = await operator.pool.fetch(
        "SELECT * FROM audit_log WHERE action = $1 ORDER BY at", action
    )
    return [dict(row) for row in rows]


async def balance(operator: ConsoleBrowser, organization: Organization) -> Any:
    return (await balances(operator.pool, organization))[0]


async def suspend(operator: ConsoleBrowser, organization: Organization) -> None:
    await agree(operator.pool, organization, TOP)
    async with operator.pool.acquire() as connection, connection.transaction():
        await recharge.suspend_by_operator(
            connection, organization.id, actor="test", reason="fraud?", now=operator.clock()
        )


async def test_an_organization_is_resumed_with_a_reason(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await suspend(operator, organization)
    page = await act(operator, organization, "/recharge/resume", reason="the customer called")
    assert page.one(".flash").get_text() == "Auto-recharge is resumed."
    assert page.one(".facts .badge").get_text() == "active"
    (entry,) = await audited(operator, "recharge.resume")
    assert (entry["actor"], entry["reason"]) == ("console:admin key 0", "the customer called")
    assert entry["organization_id"] == organization.id
    assert str(entry["key_id"]) == operator.keys[0]["id"]


async def test_what_is_not_suspended_is_not_resumed(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await suspend(operator, organization)
    await operator.get(path(organization))
    assert operator.page is not None
    fields = operator.page.form(path(organization, "/recharge/resume")) | {"reason": "x"}
    await operator.post(path(organization, "/recharge/resume"), fields)
    page = await operator.post(path(organization, "/recharge/resume"), fields)
    assert page.status == 409
    assert "Nothing to resume: auto-recharge is active." in page.text
    assert len(await audited(operator, "recharge.resume")) == 1


async def test_auto_recharge_is_suspended_and_turned_off(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await agree(operator.pool, organization, TOP)
    page = await act(operator, organization, "/recharge/suspend", at="/recharge", reason=HOSTILE)
    assert f"operator: {HOSTILE}" in page.text
    assert page.soup.find_all(["script", "b"]) == []
    page = await operator.submit(path(organization, "/recharge/off"), reason="closed")
    assert page.one(".flash").get_text() == "Auto-recharge is off."
    assert [e["reason"] for e in await audited(operator, "recharge.off")] == ["closed"]


@pytest.mark.parametrize(
    ("credits_max", "charges_max", "shown"),
    [
        (None, None, "Monthly cap none Declines"),
        (Decimal(500), None, "Monthly cap 500 credits Declines"),
        (None, 1, "Monthly cap 1 charge Declines"),
        (Decimal(500), 3, "Monthly cap 500 credits, 3 charges Declines"),
    ],
)
async def test_the_monthly_cap_is_in_credits_in_charges_or_both(
    operator: ConsoleBrowser,
    organization: Organization,
    credits_max: Decimal | None,
    charges_max: int | None,
    shown: str,
) -> None:
    rule = replace(TOP, monthly_cap=credits_max, monthly_count_cap=charges_max)
    await agree(operator.pool, organization, rule)
    assert shown in (await operator.get(path(organization, "/recharge"))).text


async def test_without_a_rule_there_is_nothing_to_suspend(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await operator.get(path(organization))
    assert operator.page is not None
    csrf = operator.page.form("/console/sign-out")["csrf"]
    for end in ("resume", "suspend", "off"):
        page = await operator.post(
            path(organization, f"/recharge/{end}"), {"reason": "x", "csrf": csrf}
        )
        assert page.status == 404
        assert "has no auto-recharge" in page.text


async def test_a_promotional_grant_is_posted_with_its_origin_and_audited(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    page = await act(
        operator, organization, "/grants", amount="25.5", priority="7", expires_on="2099-12-31",
        reason="an apology",
    )  # fmt: skip
    assert page.one(".flash").get_text() == "25.5 credits are granted."
    row = await operator.pool.fetchrow(
        "SELECT t.*, g.priority, g.promotional, g.expires_at::text AS expires_at"
        " FROM credit_transactions AS t INNER JOIN credit_grants AS g USING (organization_id, seq)"
    )
    assert row is not None
    assert (row["type"], row["counterparty"], row["description"]) == (
        "grant", "promotions", "an apology",
    )  # fmt: skip
    assert (row["priority"], row["promotional"]) == (7, True)
    assert row["expires_at"] == "2100-01-01 00:00:00+00"
    assert row["metadata"]["prepaid:key"] == operator.keys[0]["id"]
    (entry,) = await audited(operator, "grants.create")
    assert (entry["reason"], entry["subject"]) == ("an apology", str(row["id"]))
    assert entry["details"] == {"transactions": [f"ct_{row['id'].hex}"]}


@pytest.mark.parametrize(
    ("end", "fields"), [("/grants", {"amount": "10"}), ("/adjustments", {"adjustment": "10"})]
)
async def test_a_form_that_is_sent_twice_posts_once(
    operator: ConsoleBrowser, organization: Organization, end: str, fields: dict[str, str]
) -> None:
    await operator.get(path(organization))
    assert operator.page is not None
    form = operator.page.form(path(organization, end)) | fields | {"reason": "once"}
    await operator.post(path(organization, end), form)
    page = await operator.post(path(organization, end), form)
    assert page.one(".flash").get_text() == "This form was sent before. Nothing was posted again."
    assert await balance(operator, organization) == 10
    assert await operator.pool.fetchval("SELECT count(*) FROM audit_log WHERE reason = 'once'") == 1
    page = await operator.post(path(organization, end), form | {"reason": "another"})
    assert page.status == 409
    assert await balance(operator, organization) == 10


async def test_a_balance_is_adjusted_down_as_far_as_it_goes(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await post(operator.pool, grant(organization, 10))
    page = await act(operator, organization, "/adjustments", adjustment="-4", reason="a mistake")
    assert page.one(".flash").get_text() == "The balance is adjusted by -4."
    assert await balance(operator, organization) == 6
    page = await act(operator, organization, "/adjustments", adjustment="-7", reason="a mistake")
    assert page.status == 402
    assert "This needs 7 credits; 6 are available" in page.text
    assert len(await audited(operator, "transactions.post")) == 1


@pytest.mark.parametrize(
    "amount", ["", "ten", "NaN", "0", "-5", "0.0000000001", "1e99", "9" * 60, "1e-999999999"]
)
async def test_an_amount_that_cannot_be_granted_is_refused_with_a_sentence(
    operator: ConsoleBrowser, organization: Organization, amount: str
) -> None:
    page = await act(operator, organization, "/grants", amount=amount, reason="x")
    assert page.status == 422
    assert "amount" in page.one(".problem").get_text()
    assert await balance(operator, organization) == 0


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("priority", "101", 422), ("priority", "1.5", 422), ("priority", "1e999999999", 422),
        ("expires_on", "2001-01-01", 422), ("expires_on", "soon", 400), ("key", "", 422),
        ("reason", "", 422),
    ],
)  # fmt: skip
async def test_a_wrong_field_of_a_grant_is_refused(
    operator: ConsoleBrowser, organization: Organization, field: str, value: str, status: int
) -> None:
    fields = {"amount": "5", "reason": "x"} | {field: value}
    assert (await act(operator, organization, "/grants", **fields)).status == status
    assert await balance(operator, organization) == 0


async def test_a_promotional_grant_is_voided(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    (made, _) = await post(operator.pool, grant(organization, 10), usage(organization, 4))
    end = f"/grants/{made.id}/void"
    await operator.get(path(organization, "/grants"))
    assert operator.page is not None
    form = operator.page.form(path(organization, end)) | {"reason": "abuse"}
    page = await operator.post(path(organization, end), form)
    assert page.one(".flash").get_text() == "6 credits of the grant are taken back."
    assert await balance(operator, organization) == 0
    page = await operator.post(path(organization, end), form)
    assert page.one(".flash").get_text() == "This form was sent before. Nothing was posted again."
    page = await operator.post(path(organization, end), form | {"reason": "other"})
    assert "This grant is void already." in page.text
    (entry,) = await audited(operator, "grants.void")
    assert (entry["reason"], entry["subject"]) == ("abuse", str(made.id))


async def test_a_purchased_grant_is_not_voided(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    (bought,) = await post(operator.pool, grant(organization, 10, payment_intent_id="pi_bought"))
    page = await operator.get(path(organization, "/grants"))
    assert page.soup.select("main .act") == []
    form = {"reason": "x", "csrf": page.form("/console/sign-out")["csrf"]}
    page = await operator.post(path(organization, f"/grants/{bought.id}/void"), form)
    assert page.status == 409
    assert "Refund its payment at Stripe" in page.text
    page = await operator.post(path(organization, f"/grants/{new_id()}/void"), form)
    assert page.status == 404


async def test_a_bound_session_acts_on_its_own_organization_alone(
    stranger: ConsoleBrowser, organization: Organization
) -> None:
    async with stranger.pool.acquire() as connection, connection.transaction():
        other = await organizations.create(connection, slug="other", name="Other")
    await stranger.sign_in("admin", organization)
    page = await act(stranger, organization, "/grants", amount="5", reason="x")
    assert page.status == 200
    form = page.form(path(organization, "/grants")) | {"amount": "5", "reason": "x"}
    for end in ("/grants", "/adjustments", "/recharge/suspend", f"/grants/{new_id()}/void"):
        answer = await stranger.post(path(other, end), form | {"adjustment": "5"})
        assert answer.status == 404, end
    assert await balance(stranger, other) == 0
