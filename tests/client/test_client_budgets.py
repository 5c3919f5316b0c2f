"""Budgets, alerts, reports and batches through both clients."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from prepaid_client import AlreadyExists, AsyncClient, BudgetExceeded, Client, Invalid, NotFound

from shared.organizations.model import Organization
from tests.fixtures.faulty_proxy import Fault, FaultyProxy


async def test_a_budget_is_created_changed_listed_and_removed(
    prepaid_async: AsyncClient, funded: Organization, proxy: FaultyProxy
) -> None:
    wanted: dict[str, Any] = {"subject_kind": "user", "subject": "jo", "window": "total"}
    proxy.fail("/budgets", Fault.LOSE_ANSWER)
    made = await prepaid_async.create_budget("acme", **wanted, limit="2.5", thresholds=[50])
    assert (made["limit"], made["left"], made["thresholds"]) == (Decimal("2.5"), 2.5, [50])
    with pytest.raises(AlreadyExists):
        await prepaid_async.create_budget("acme", **wanted, limit=1)
    with pytest.raises(BudgetExceeded):
        await prepaid_async.debit("acme", 3, user_id="jo")
    changed = await prepaid_async.change_budget("acme", made["id"], limit=4)
    assert (changed["limit"], changed["thresholds"]) == (4, [50])
    await prepaid_async.debit("acme", 3, user_id="jo")
    found = await prepaid_async.budget("acme", made["id"])
    assert (found["used"], found["left"]) == (3, 1)
    page = await prepaid_async.budgets("acme", limit=1)
    assert ([each["id"] for each in page["data"]], page["nextCursor"]) == ([made["id"]], None)
    assert (await prepaid_async.remove_budget("acme", made["id"]))["removed"] is True
    with pytest.raises(NotFound):
        await prepaid_async.budget("acme", made["id"])


async def test_the_blocking_client_has_budgets_alerts_and_reports(
    prepaid_blocking: Client, funded: Organization
) -> None:
    def use() -> None:
        client = prepaid_blocking
        made = client.create_budget(
            "acme", subject_kind="tag", subject="*", window="day", limit=50, action="tell"
        )
        assert client.budget("acme", made["id"])["action"] == "tell"
        assert client.set_alerts("acme", [10, "2.5"])["thresholds"] == [Decimal("2.5"), 10]
        assert client.alerts("acme")["thresholds"] == [Decimal("2.5"), 10]
        assert client.set_usage_dimensions("acme", ["tag"])["dimensions"] == ["tag"]
        client.debit("acme", 1, tags=["beta"])
        report = client.usage_report("acme", group_by=["tag"])
        assert [(each["tag"], each["cost"]) for each in report["data"]] == [("beta", 1)]
        assert client.usage_dimensions("acme")["totalsFrom"] is not None

    await asyncio.to_thread(use)


async def test_a_batch_has_a_result_for_each_transaction(
    prepaid_async: AsyncClient, funded: Organization, proxy: FaultyProxy
) -> None:
    proxy.fail("/transactions/batch", Fault.LOSE_ANSWER)
    batch = await prepaid_async.transaction_batch(
        "acme",
        [
            {"amount": Decimal("-0.5"), "transactionId": "call-1", "userId": "jo"},
            {"amount": -1000, "transactionId": "call-2"},
            {"amount": Decimal("-0.0000000001")},
            {"amount": 25, "type": "grant"},
        ],
    )
    assert [result["status"] for result in batch["results"]] == [
        "posted", "insufficient", "invalid", "posted",
    ]  # fmt: skip
    assert (await prepaid_async.balance("acme"))["balance"] == Decimal("124.5")


async def test_a_batch_of_usage_is_priced_and_reported(
    prepaid_async: AsyncClient, funded: Organization
) -> None:
    stored = await prepaid_async.create_price_book(
        {"name": "default", "prices": [{"models": ["m-1"], "measures": {"images": "2"}}]}
    )
    await prepaid_async.activate_price_book("default", stored["version"])
    batch = await prepaid_async.usage_batch(
        "acme",
        [
            {"model": "m-1", "measures": {"images": 2}, "transactionId": "a", "userId": "jo"},
            {"model": "m-2", "measures": {"images": 2}, "transactionId": "b"},
            {"model": "m-1", "measures": {"images": 1}, "transactionId": "c", "userId": "al"},
        ],
    )
    assert [result["status"] for result in batch["results"]] == ["posted", "invalid", "posted"]
    now = datetime.now(UTC)
    report = await prepaid_async.usage_report(
        "acme",
        group_by=["user", "day"],
        start=now - timedelta(hours=1),
        end=now + timedelta(hours=1),
        model="m-1",
        user="jo",
        limit=5,
    )
    assert [(each["user"], each["cost"]) for each in report["data"]] == [("jo", 4)]
    assert report["source"] == "rows"
    with pytest.raises(Invalid):
        await prepaid_async.usage_report("acme", start=now, end=now - timedelta(hours=2))


def test_moments_need_a_time_zone() -> None:
    client = Client("http://credits.test", "ppk")
    with pytest.raises(ValueError, match="time zone"):
        client.usage_report("acme", start=datetime(2026, 11, 1))  # noqa: DTZ001 - on purpose
