"""402: what was asked for, what is there, and whether a recharge is on its way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from shared.ledger.posting_errors import RECHARGE_SECONDS_MIN
from shared.organizations.model import Organization
from shared.recharge.model import Rule
from tests.fixtures import recharging
from tests.fixtures.api import ApiClient
from tests.fixtures.product import Answer

PATH = "/api/credit-transactions"
HOLDS = "/v1/billing/acme/holds"
BATCH = "/v1/billing/acme/transactions/batch"
SETTINGS = "/v1/organizations/acme/billing"
TO_TARGET = Rule(threshold=Decimal(10), target=Decimal(50))
KIND = "insufficient_credits_error"
AMOUNTS = ("required", "available", "balance", "held")


@pytest_asyncio.fixture
async def rich(api_client: ApiClient, organization: Organization) -> ApiClient:
    """Give the organization 52.5 credits, of which 50 are on hold."""
    await api_client.post("/v1/billing/acme/grants", {"amount": 52.5})
    assert (await api_client.post(HOLDS, {"amount": 50})).status == 200
    return api_client


async def agree(client: ApiClient, owner: Organization) -> None:
    await recharging.agree(client.pool, owner, TO_TARGET)


def debit(amount: float, **fields: Any) -> dict[str, Any]:
    return {"organizationId": "acme", "amount": -amount} | fields


async def refused_debit(client: ApiClient) -> Any:
    return (await client.post(PATH, debit(10))).json


async def refused_under_a_key(client: ApiClient) -> Any:
    return (await client.post(PATH, debit(10), idempotency_key="k")).json


async def refused_adjustment(client: ApiClient) -> Any:
    return (await client.post(PATH, debit(10, type="adjustment"))).json


async def refused_hold(client: ApiClient) -> Any:
    return (await client.post(HOLDS, {"amount": 10})).json


async def refused_item(client: ApiClient) -> Any:
    answer = await client.post(BATCH, {"transactions": [{"amount": -1}, {"amount": -10}]})
    assert answer.status == 200
    posted, refused = answer.json["results"]
    assert (posted["status"], refused["status"]) == ("posted", "insufficient")
    return refused["error"]


@pytest.mark.parametrize(
    ("refuse", "available"),
    [
        (refused_debit, 2.5),
        (refused_under_a_key, 2.5),
        (refused_adjustment, 2.5),
        (refused_hold, 2.5),
        (refused_item, 1.5),
    ],
)
async def test_a_402_says_what_was_asked_for_and_what_is_there(
    rich: ApiClient, refuse: Any, available: float
) -> None:
    found = await refuse(rich)
    assert (found["code"], found["type"]) == (402, KIND)
    assert [found[name] for name in AMOUNTS] == [10, available, available + 50, 50]
    assert found["detail"] == (
        f"This needs 10 credits; {available} are available (balance {available + 50}, held 50)."
    )
    assert "rechargeInProgress" not in found


async def test_a_402_without_a_recharge_has_no_retry_after(rich: ApiClient) -> None:
    assert "Retry-After" not in (await rich.post(PATH, debit(10))).headers


async def test_a_capture_beyond_its_hold_says_so_too(rich: ApiClient) -> None:
    hold = (await rich.get(HOLDS)).json["data"][0]["id"]
    asked = {"amount": 60, "allowExceed": True}
    answer = await rich.post(f"{HOLDS}/{hold}/capture", asked)
    assert (answer.status, answer.json["type"]) == (402, KIND)
    assert [answer.json[name] for name in AMOUNTS] == [60, 2.5, 52.5, 50]


async def test_what_is_available_counts_the_overdraft_limit_and_is_never_negative(
    rich: ApiClient,
) -> None:
    await rich.call("PATCH", SETTINGS, {"overdraftLimitDecimillicents": 50_000_000})
    assert (await refused_debit(rich))["available"] == 7.5
    await rich.post(PATH, debit(20, onInsufficient="overdraft"))
    found = await refused_debit(rich)
    assert [found[name] for name in AMOUNTS] == [10, 0, 32.5, 50]


async def test_amounts_are_exact_to_the_last_digit(rich: ApiClient) -> None:
    raw = b'{"organizationId": "acme", "amount": -123456789012345678.000000001}'
    answer = await rich.post(PATH, raw)
    assert answer.status == 402
    assert b'"required":123456789012345678.000000001' in answer.body


async def test_m6_a_402_says_that_a_recharge_is_on_its_way(
    api_client: ApiClient, organization: Organization
) -> None:
    """M6: balance 12, threshold 10, target 50, usage of 15; then the recharge is armed."""
    await api_client.post("/v1/billing/acme/grants", {"amount": 12})
    await agree(api_client, organization)
    answer = await api_client.post(PATH, debit(15))
    assert answer.status == 402
    assert answer.json["rechargeInProgress"] is True
    assert answer.headers["Retry-After"] == str(RECHARGE_SECONDS_MIN)
    assert [answer.json[name] for name in AMOUNTS] == [15, 12, 12, 0]
    row = await api_client.pool.fetchrow("SELECT state, needed FROM recharge_attempts")
    assert row is not None
    assert (row["state"], row["needed"]) == ("armed", 15)


async def test_m7_a_hold_arms_and_the_next_one_is_told_of_it(
    api_client: ApiClient, organization: Organization
) -> None:
    """M7: balance 100, threshold 10, hold of 95, then hold of 6."""
    await api_client.post("/v1/billing/acme/grants", {"amount": 100})
    await agree(api_client, organization)
    first = await api_client.post(HOLDS, {"amount": 95})
    assert first.status == 200
    assert await api_client.pool.fetchval("SELECT state FROM recharge_attempts") == "armed"
    second = await api_client.post(HOLDS, {"amount": 6})
    assert (second.status, second.json["rechargeInProgress"]) == (402, True)
    assert second.headers["Retry-After"] == str(RECHARGE_SECONDS_MIN)
    assert [second.json[name] for name in AMOUNTS] == [6, 5, 100, 95]


async def test_an_item_of_a_batch_says_that_a_recharge_is_on_its_way(
    api_client: ApiClient, organization: Organization
) -> None:
    await api_client.post("/v1/billing/acme/grants", {"amount": 12})
    await agree(api_client, organization)
    asked = {"transactions": [{"amount": -15}]}
    (result,) = (await api_client.post(BATCH, asked, idempotency_key="k")).json["results"]
    assert result["error"]["rechargeInProgress"] is True
    assert await api_client.pool.fetchval("SELECT needed FROM recharge_attempts") == 15


async def refusal_while(client: ApiClient, change: str, *values: Any) -> Answer:
    await client.post("/v1/billing/acme/grants", {"amount": 12})
    await client.post(PATH, debit(15))
    await client.pool.execute(change, *values)
    return await client.post(PATH, debit(15))


CHARGED = (
    "UPDATE recharge_attempts SET state = '{}', amount = 38, amount_minor = 3800,"
    " currency = 'usd', customer_id = 'cus_1', payment_method_id = 'pm_1', charged_at = now(),"
    " payment_intent_id = 'pi_1', due_at = now()"
)


@pytest.mark.parametrize("state", ["charging", "processing", "unknown"])
async def test_an_attempt_that_goes_on_by_itself_is_a_recharge_in_progress(
    api_client: ApiClient, organization: Organization, state: str
) -> None:
    await agree(api_client, organization)
    answer = await refusal_while(api_client, CHARGED.format(state))
    assert (answer.status, answer.json["rechargeInProgress"]) == (402, True)


async def test_an_attempt_that_waits_for_the_customer_is_no_recharge_in_progress(
    api_client: ApiClient, organization: Organization
) -> None:
    await agree(api_client, organization)
    answer = await refusal_while(api_client, CHARGED.format("requires_action"))
    assert "rechargeInProgress" not in answer.json
    assert "Retry-After" not in answer.headers


async def test_an_attempt_of_a_rule_that_was_suspended_is_no_recharge_in_progress(
    api_client: ApiClient, organization: Organization
) -> None:
    await agree(api_client, organization)
    suspended = "UPDATE auto_recharges SET state = 'suspended', reason = 'operator'"
    answer = await refusal_while(api_client, suspended)
    assert "rechargeInProgress" not in answer.json


async def test_an_attempt_that_waits_after_a_decline_says_for_how_long(
    api_client: ApiClient, organization: Organization
) -> None:
    await agree(api_client, organization)
    later = datetime.now(UTC) + timedelta(hours=1)
    postponed = "UPDATE recharge_attempts SET due_at = $1"
    answer = await refusal_while(api_client, postponed, later)
    assert answer.json["rechargeInProgress"] is True
    # The clock went on meanwhile, by less than a minute.
    assert 3540 <= int(answer.headers["Retry-After"]) <= 3600
