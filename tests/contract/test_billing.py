"""The client shape `billing` over HTTP: settings, the rule of auto-recharge, actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures.billing import BILLING, CREDIT, use

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from tests.fixtures.api import ApiClient


SETTINGS = "/v1/organizations/acme/billing"
THRESHOLD = "autoRechargeThresholdDecimillicents"
AMOUNT = "autoRechargeAmountDecimillicents"
TARGET = "autoRechargeTargetDecimillicents"
CAP = "autoRechargeMonthlyCapDecimillicents"
LOW = "lowBalanceThresholdDecimillicents"
RULE = {
    "autoRechargeEnabled": True,
    "consentedBy": "jo@acme.example",
    THRESHOLD: 10 * CREDIT,
    AMOUNT: 25 * CREDIT,
}
ON = {name: RULE[name] for name in ("autoRechargeEnabled", "consentedBy")}
SETTINGS_FIELDS = {
    "organizationId", "billingEmail", "stripeCustomerId", "stripeSubscriptionId",
    "stripePaymentMethodId", "creditsBalanceDecimillicents", "reservedCreditsDecimillicents",
    "autoRechargeEnabled", THRESHOLD,
    AMOUNT, "isSubscribed", "subscriptionStatus", "subscriptionPlan",
    "subscriptionStartedAt", "subscriptionEndsAt", "subscriptionCurrentPeriodEnd",
    TARGET, CAP, LOW,
    "autoRechargeMonthlyCountCap", "autoRechargeState", "overdraftLimitDecimillicents",
}  # fmt: skip


async def audit(pool: Pool) -> list[str]:
    return [row["action"] for row in await pool.fetch("SELECT action FROM audit_log ORDER BY at")]


async def test_settings_have_the_documented_fields(
    api_client: ApiClient, organization: Organization
) -> None:
    await use(api_client, 42.00000001)
    await api_client.post(f"{BILLING}/holds", {"amount": 2})
    found = (await api_client.get(SETTINGS)).json
    assert set(found) >= SETTINGS_FIELDS
    assert found["organizationId"] == str(organization.id)
    assert found["creditsBalanceDecimillicents"] == 420_000_000
    assert found["reservedCreditsDecimillicents"] == 20_000_000
    assert (found["autoRechargeEnabled"], found["autoRechargeState"]) == (False, "off")
    assert (found["isSubscribed"], found["subscriptionStatus"]) == (False, "inactive")


async def test_a_subscription_is_shown_as_stripe_last_told_of_it(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    await pool.execute(
        "INSERT INTO subscriptions (id, organization_id, status, plan, started_at, as_of) VALUES"
        " ('sub_old', $1, 'canceled', 'price_a', now(), now()),"
        " ('sub_new', $1, 'active', 'price_b', now() - interval '1 day', now())",
        organization.id,
    )
    found = (await api_client.get(SETTINGS)).json
    assert (found["isSubscribed"], found["stripeSubscriptionId"]) == (True, "sub_new")
    assert (found["subscriptionPlan"], found["subscriptionEndsAt"]) == ("price_b", None)


async def test_auto_recharge_is_turned_on_changed_and_off_with_each_step_in_the_log(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    on = await api_client.call("PATCH", SETTINGS, RULE)
    assert on.status == 200, on.json
    assert (on.json["autoRechargeState"], on.json["autoRechargeEnabled"]) == ("active", True)
    capped = {CAP: 500 * CREDIT}
    changed = (await api_client.call("PATCH", SETTINGS, capped)).json
    assert changed[THRESHOLD] == 10 * CREDIT
    assert changed[CAP] == 500 * CREDIT
    target = {TARGET: 50 * CREDIT}
    aimed = (await api_client.call("PATCH", SETTINGS, target)).json
    assert aimed[AMOUNT] is None
    assert aimed[TARGET] == 50 * CREDIT
    off = (await api_client.call("PATCH", SETTINGS, {"autoRechargeEnabled": False})).json
    assert (off["autoRechargeEnabled"], off["autoRechargeState"]) == (False, "off")
    assert off[TARGET] == 50 * CREDIT
    assert await pool.fetchval("SELECT recharge_below FROM accounts") is None
    consents = await pool.fetch(
        "SELECT details->>'consentedBy' AS by FROM audit_log WHERE action = 'recharge.configure'"
        " ORDER BY at"
    )
    assert [row["by"] for row in consents] == ["jo@acme.example", None, None]
    consented = "SELECT consented_by FROM auto_recharges"
    assert await pool.fetchval(consented) == "jo@acme.example"
    assert (await audit(pool))[-1] == "recharge.off"


@pytest.mark.parametrize(
    ("field", "rule"),
    [
        (TARGET, {THRESHOLD: 10 * CREDIT, TARGET: 10**18 * CREDIT}),
        (TARGET, {THRESHOLD: 10 * CREDIT, TARGET: 10_001 * CREDIT}),
        (AMOUNT, {THRESHOLD: 10 * CREDIT, AMOUNT: 10_001 * CREDIT}),
        (THRESHOLD, {THRESHOLD: 10**18 * CREDIT, AMOUNT: 25 * CREDIT}),
        (THRESHOLD, {THRESHOLD: 9_980 * CREDIT, AMOUNT: 25 * CREDIT}),
    ],
)
async def test_a_rule_that_charges_more_than_a_purchase_may_cost_is_refused_by_name(
    api_client: ApiClient, organization: Organization, field: str, rule: dict[str, int]
) -> None:
    answer = await api_client.call("PATCH", SETTINGS, ON | rule)
    assert answer.status == 422
    assert [error["loc"] for error in answer.json["errors"]] == [["body", field]]
    assert "10000.00 USD, the most of one charge" in answer.json["detail"]


@pytest.mark.parametrize("besides", [{}, {CAP: 500 * CREDIT}])
async def test_off_and_on_again_does_not_end_what_only_a_person_ends(
    api_client: ApiClient, organization: Organization, pool: Pool, besides: dict[str, int]
) -> None:
    await api_client.call("PATCH", SETTINGS, RULE)
    await pool.execute("UPDATE auto_recharges SET state = 'suspended', reason = 'fraud_warning'")
    off = await api_client.call("PATCH", SETTINGS, {"autoRechargeEnabled": False} | besides)
    assert (off.json["autoRechargeState"], off.json["autoRechargeStateReason"]) == ("off", None)
    on = (await api_client.call("PATCH", SETTINGS, ON)).json
    assert (on["autoRechargeState"], on["autoRechargeStateReason"]) == (
        "suspended", "fraud_warning",
    )  # fmt: skip
    await api_client.call("PATCH", SETTINGS, {"autoRechargeEnabled": False})
    resumed = await api_client.post(f"{BILLING}/auto-recharge/resume", {"reason": "looked at it"})
    assert (resumed.status, resumed.json["autoRechargeState"]) == (200, "off")
    assert (await audit(pool))[-1] == "recharge.resume"
    on = (await api_client.call("PATCH", SETTINGS, ON)).json
    assert on["autoRechargeState"] == "active"


async def test_a_rule_can_be_kept_before_anybody_agrees(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    kept = {name: value for name, value in RULE.items() if name not in ON}
    found = (await api_client.call("PATCH", SETTINGS, kept)).json
    assert (found["autoRechargeEnabled"], found["autoRechargeState"]) == (False, "off")
    assert await pool.fetchval("SELECT consented_at FROM auto_recharges") is None
    on = (await api_client.call("PATCH", SETTINGS, ON)).json
    assert on[AMOUNT] == 25 * CREDIT
    assert await pool.fetchval("SELECT consented_at FROM auto_recharges") is not None
    await use(api_client, 5)
    assert await pool.fetchval("SELECT recharge_below FROM accounts") == 10


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"autoRechargeEnabled": True}, THRESHOLD),
        ({AMOUNT: 5}, THRESHOLD),
        (RULE | {AMOUNT: 1}, AMOUNT),
        (RULE | {AMOUNT: -5}, AMOUNT),
        (RULE | {AMOUNT: 1.5}, AMOUNT),
        (RULE | {THRESHOLD: "1"}, THRESHOLD),
        (RULE | {THRESHOLD: 10**30}, THRESHOLD),
        (RULE | {CAP: 0}, CAP),
        (RULE | {CAP: 1}, AMOUNT),
        (RULE | {"autoRechargeMonthlyCountCap": 0}, "autoRechargeMonthlyCountCap"),
        ({"billingEmail": "nobody"}, "billingEmail"),
        ({"overdraftLimitDecimillicents": -1}, "overdraftLimitDecimillicents"),
        (RULE | {LOW: -1}, LOW),
        ({LOW: 1.5}, LOW),
        ({LOW: "1"}, LOW),
        ({LOW: 10**30}, LOW),
        ({"creditsBalanceDecimillicents": 1}, "creditsBalanceDecimillicents"),
        ({"autoRechargeEnabled": None}, "autoRechargeEnabled"),
        (RULE | {"consentedBy": None}, "consentedBy"),
        (RULE | {"consentedBy": ""}, "consentedBy"),
        (RULE | {"consentedBy": " "}, "consentedBy"),
        (RULE | {"consentedBy": "\u200b"}, "consentedBy"),
        (RULE | {"consentedBy": "a\0b"}, "consentedBy"),
    ],
)  # fmt: skip
async def test_a_wrong_setting_is_named_and_changes_nothing(
    api_client: ApiClient, organization: Organization, change: dict[str, Any], field: str
) -> None:
    before = (await api_client.get(SETTINGS)).json
    answer = await api_client.call("PATCH", SETTINGS, change)
    assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["body", field])
    assert (await api_client.get(SETTINGS)).json == before


async def test_a_low_balance_threshold_is_set_with_or_without_a_rule(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    async def low_below() -> Any:
        return await pool.fetchval("SELECT low_below FROM accounts")

    write = await api_client.make_key("write")
    assert (await api_client.get(SETTINGS)).json[LOW] is None
    changed = (await write.call("PATCH", SETTINGS, {LOW: 30 * CREDIT})).json
    assert (changed[LOW], changed["autoRechargeState"]) == (30 * CREDIT, "off")
    assert await low_below() == 30
    await api_client.call("PATCH", SETTINGS, RULE)
    assert await low_below() == 30
    assert (await write.call("PATCH", SETTINGS, {LOW: None})).json[LOW] is None
    assert await low_below() == 10
    await api_client.call("PATCH", SETTINGS, {"autoRechargeEnabled": False})
    assert await low_below() is None
    assert (await audit(pool)).count("billing.low_balance") == 2


async def test_m13_low_follows_the_rule_that_was_saved_last(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    """M13: rule saved with threshold 10, then 50."""
    for threshold in (10, 50):
        await api_client.call("PATCH", SETTINGS, RULE | {THRESHOLD: threshold * CREDIT})
    assert await pool.fetchval("SELECT low_below FROM accounts") == 50
    await pool.execute("UPDATE auto_recharges SET state = 'suspended', reason = 'operator'")
    await api_client.call("PATCH", SETTINGS, {THRESHOLD: 20 * CREDIT})
    row = await pool.fetchrow("SELECT low_below, recharge_below FROM accounts")
    assert row is not None
    assert (row["low_below"], row["recharge_below"]) == (20, None)


async def test_only_an_admin_may_say_how_far_below_zero_one_may_go(
    api_client: ApiClient, organization: Organization
) -> None:
    write = await api_client.make_key("write")
    limit = {"overdraftLimitDecimillicents": 5 * CREDIT}
    refused = await write.call("PATCH", SETTINGS, limit)
    assert (refused.status, refused.json["type"]) == (403, "permission_error")
    assert (await api_client.call("PATCH", SETTINGS, limit)).json | limit
    assert (await use(api_client, -5))["balanceAfter"] == -5
    credits_ = (await api_client.get(f"{BILLING}/credits")).json
    assert credits_["availableCreditsDecimillicents"] == 0
    email = (await write.call("PATCH", SETTINGS, {"billingEmail": "jo@acme.example"})).json
    assert email["billingEmail"] == "jo@acme.example"
    assert (await write.call("PATCH", SETTINGS, {"billingEmail": None})).json[
        "billingEmail"
    ] is None


async def test_the_reminder_is_shown_until_there_is_a_cap_or_it_is_dismissed(
    api_client: ApiClient, organization: Organization
) -> None:
    path = f"{BILLING}/no-cap-reminder"

    async def shows() -> Any:
        return (await api_client.get(path)).json["show"]

    assert await shows() is False
    assert (await api_client.post(f"{path}/dismiss")).json["show"] is False
    await api_client.call("PATCH", SETTINGS, RULE)
    assert await shows() is True
    await api_client.call("PATCH", SETTINGS, {CAP: 99 * CREDIT})
    assert await shows() is False
    await api_client.call("PATCH", SETTINGS, {CAP: None})
    assert await shows() is True
    dismissed = (await api_client.post(f"{path}/dismiss")).json
    assert (dismissed["show"], dismissed["dismissedAt"] is None) == (False, False)
    assert (await api_client.post(f"{path}/dismiss")).json == dismissed


async def test_auto_recharge_is_resumed_by_hand(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    path = f"{BILLING}/auto-recharge/resume"
    assert (await api_client.post(path)).status == 409
    await api_client.call("PATCH", SETTINGS, RULE)
    await pool.execute("UPDATE auto_recharges SET state = 'suspended', reason = 'declines'")
    before = (await api_client.get(SETTINGS)).json
    assert before["autoRechargeStateReason"] == "declines"
    resumed = await api_client.post(path, {"reason": "a new card"})
    assert (resumed.status, resumed.json["autoRechargeState"]) == (200, "active")
    assert (
        await pool.fetchval("SELECT reason FROM audit_log WHERE action = 'recharge.resume'")
        == "a new card"
    )
