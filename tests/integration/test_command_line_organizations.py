"""prepaid orgs edit, close and reopen: what is refused, what is recorded, what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.ledger.verification.service import verify
from tests.fixtures.commands import Command, assert_refused
from tests.fixtures.ledger import grant, hold, post, usage
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

REASON = ("--reason", "the contract ended")


@pytest.mark.usefixtures("organization")
async def test_an_edit_changes_what_is_given_and_is_audited_without_the_values(
    prepaid: Command, pool: Pool
) -> None:
    edited = await prepaid("orgs", "edit", "acme", "--email", "jo@acme.example", *REASON, "--json")
    assert (edited.code, edited.json["email"]) == (0, "jo@acme.example")
    cleared = (await prepaid("orgs", "edit", "acme", "--email", "", *REASON, "--json")).json
    assert cleared["email"] is None
    assert_refused(await prepaid("orgs", "edit", "acme", *REASON), "--name or --email")
    assert (await prepaid("orgs", "edit", "acme", "--name", "A")).code == 2
    details = await pool.fetch("SELECT details, reason FROM audit_log")
    assert [tuple(row) for row in details] == [({"changed": ["email"]}, REASON[1])] * 2


async def test_closing_turns_auto_recharge_off_and_the_books_still_verify(
    prepaid: Command, pool: Pool, shop: Shop
) -> None:
    await shop.open()
    closed = (await prepaid("orgs", "close", "acme", *REASON, "--json")).json
    assert (closed["status"], closed["changed"]) == ("closed", True)
    again = (await prepaid("orgs", "close", "acme", *REASON, "--json")).json
    assert (again["status"], again["changed"]) == ("closed", False)
    await shop.work()
    assert await pool.fetchval("SELECT count(*) FROM stripe_payments") == 0
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []
    reopened = (await prepaid("orgs", "reopen", "acme", *REASON, "--json")).json
    assert (reopened["status"], reopened["changed"]) == ("active", True)
    assert (await prepaid("recharge", "show", "acme", "--json")).json["state"] == "off"
    await post(pool, usage(shop.owner, 1))
    async with pool.acquire() as connection:
        assert (await verify(connection))["problems"] == []


async def test_holds_prevent_a_close_unless_it_is_forced_which_releases_them(
    prepaid: Command, pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 10))
    await hold(pool, organization, 4)
    assert_refused(await prepaid("orgs", "close", "acme", *REASON), "1 active holds", "Forced")
    closed = (await prepaid("orgs", "close", "acme", "--force", *REASON, "--json")).json
    assert (closed["holdsReleased"], closed["held"], closed["balance"]) == (1, 0, 10)


async def test_a_charge_under_way_prevents_a_close_and_force_does_not_help(
    prepaid: Command, shop: Shop
) -> None:
    await shop.open("pm_card_authenticationRequired")
    await shop.work()
    refused = await prepaid("orgs", "close", "acme", "--force", *REASON)
    assert_refused(refused, "requires_action", "prepaid recharge cancel")
