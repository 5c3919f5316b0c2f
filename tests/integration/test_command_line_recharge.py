"""prepaid recharge: what an operator sees and does about auto-recharge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.organizations.model import Organization
from shared.recharge.recovery import link_digest
from tests.fixtures.commands import Command
from tests.fixtures.recharging import Shop

if TYPE_CHECKING:
    from shared.db.pool import Pool


RULE = ("--threshold", "10", "--amount", "25", "--consented-by", "buyer@example.com")


async def test_a_rule_is_set_shown_listed_and_turned_off(
    prepaid: Command, organization: Organization
) -> None:
    made = (await prepaid("recharge", "set", "acme", *RULE, "--monthly-cap", "100", "--json")).json
    assert (made["state"], made["threshold"], made["monthlyCap"]) == ("active", 10, 100)
    shown = (await prepaid("recharge", "show", "acme", "--json")).json
    assert shown["consentedBy"] == "buyer@example.com"
    assert shown["attempts"] == []
    listed = (await prepaid("recharge", "list", "--state", "active", "--json")).json[
        "autoRecharges"
    ]
    assert [row["slug"] for row in listed] == ["acme"]
    off = (await prepaid("recharge", "off", "acme", "--reason", "asked to", "--json")).json
    assert off["state"] == "off"


async def test_a_suspension_says_why_and_what_ends_it(
    prepaid: Command, organization: Organization, pool: Pool
) -> None:
    await prepaid("recharge", "set", "acme", *RULE)
    suspended = (
        await prepaid("recharge", "suspend", "acme", "--reason", "odd usage", "--json")
    ).json
    assert (suspended["state"], suspended["reason"]) == ("suspended", "operator")
    assert suspended["endsWith"] == "prepaid recharge resume"
    resumed = (
        await prepaid("recharge", "resume", "acme", "--reason", "it was a test", "--json")
    ).json
    assert resumed["state"] == "active"
    rows = await pool.fetch("SELECT action, reason FROM audit_log ORDER BY at, id")
    assert [(row["action"], row["reason"]) for row in rows] == [
        ("recharge.configure", None),
        ("recharge.suspend", "odd usage"),
        ("recharge.resume", "it was a test"),
    ]


async def test_a_suspension_that_outlasts_off_is_shown_and_is_ended_while_off(
    prepaid: Command, organization: Organization
) -> None:
    await prepaid("recharge", "set", "acme", *RULE)
    await prepaid("recharge", "suspend", "acme", "--reason", "odd usage")
    off = await prepaid("recharge", "off", "acme", "--reason", "asked to")
    assert "suspended when it is turned on (operator: odd usage)" in off.stdout
    again = (await prepaid("recharge", "set", "acme", *RULE, "--json")).json
    assert (again["state"], again["reason"]) == ("suspended", "operator")
    await prepaid("recharge", "off", "acme", "--reason", "asked to")
    resumed = (await prepaid("recharge", "resume", "acme", "--json")).json
    assert (resumed["state"], resumed["heldReason"]) == ("off", None)


async def test_a_new_link_ends_the_one_before(prepaid: Command, shop: Shop, pool: Pool) -> None:
    await shop.open("pm_card_authenticationRequired")
    await shop.work()
    made = (await prepaid("recharge", "link", "acme", "--json")).json
    token = made["url"].rpartition("/pay/")[2]
    stored = await pool.fetchval("SELECT link_sha256 FROM recharge_attempts")
    assert stored == link_digest(token)
    shown = (await prepaid("recharge", "show", "acme", "--json")).json
    assert (shown["state"], shown["attempt"]) == ("paused_requires_action", "requires_action")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("set", "nobody", *RULE), "nobody"),
        (("set", "acme", *RULE, "--target", "50"), "target"),
        (("set", "acme", *RULE[:2], "--target", "10001", *RULE[4:]), "10000.00 USD"),
        (("set", "acme", *RULE[2:], "--threshold", "abc"), "--threshold"),
        (("set", "acme", "--threshold", "nan", *RULE[2:]), "--threshold"),
        (("set", "acme", "--threshold", "10", "--amount", "0.1", *RULE[4:]), "amount"),
        (("set", "acme", "--threshold", "10", "--amount", "9999999", *RULE[4:]), "amount"),
        (("set", "acme", "--threshold", "10", "--target", "9", *RULE[4:]), "target"),
        (("set", "acme", *RULE, "--schedule", "monthly", "--day", "32"), "schedule"),
        (("show", "acme"), "no auto-recharge"),
        (("cancel", "acme"), "no live attempt"),
        (("cancel", "nobody"), "nobody"),
        (("link", "acme"), "waits for its customer"),
    ],
)
async def test_what_cannot_be_is_refused_in_one_line(
    prepaid: Command, organization: Organization, given: tuple[str, ...], said: str
) -> None:
    answer = await prepaid("recharge", *given)
    assert answer.code == 1
    assert answer.stdout == ""
    assert said in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


async def test_what_is_not_suspended_cannot_be_resumed(
    prepaid: Command, organization: Organization
) -> None:
    await prepaid("recharge", "set", "acme", *RULE)
    answer = await prepaid("recharge", "resume", "acme")
    assert (answer.code, "acme: active" in answer.stderr) == (1, True)


async def test_without_consent_nothing_is_turned_on(
    prepaid: Command, organization: Organization
) -> None:
    answer = await prepaid("recharge", "set", "acme", "--threshold", "10", "--amount", "25")
    assert answer.code == 2


@pytest.mark.parametrize("before", ["a dispute", "off", "no rule"])
async def test_an_operator_can_always_suspend(
    prepaid: Command, organization: Organization, pool: Pool, before: str
) -> None:
    """M11."""
    if before != "no rule":
        await prepaid("recharge", "set", "acme", *RULE)
    if before == "a dispute":
        await pool.execute("UPDATE auto_recharges SET state = 'suspended', reason = 'dispute'")
    if before == "off":
        await prepaid("recharge", "off", "acme", "--reason", "asked to")
    answer = await prepaid("recharge", "suspend", "acme", "--reason", "odd usage", "--json")
    assert answer.code == 0
    found = answer.json
    reason = found["reason"] or found["heldReason"]
    assert (reason, found["detail"] or found["heldDetail"]) == ("operator", "odd usage")
    again = await prepaid("recharge", "set", "acme", *RULE, "--json")
    assert (again.json["state"], again.json["reason"]) == ("suspended", "operator")


@pytest.mark.parametrize("by", ["organization", "attempt"])
async def test_a_live_attempt_is_canceled_by_its_organization_or_its_id(
    prepaid: Command, shop: Shop, by: str
) -> None:
    await shop.open()
    attempt_id = str((await shop.attempt())["id"])
    named = "acme" if by == "organization" else attempt_id
    answer = await prepaid("recharge", "cancel", named, "--reason", "asked to")
    assert answer.code == 0
    assert f"{attempt_id}: canceled" in answer.stdout
    assert (await shop.attempt())["state"] == "canceled"
