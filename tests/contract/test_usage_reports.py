"""Usage reports over HTTP: grouped and filtered, from totals or from rows, with equal figures."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.ledger.rules import EFFECTIVE_AHEAD_MAX
from shared.usage_reports import rules, service
from shared.usage_reports.model import Dimension
from tests.fixtures.billing import BILLING, use
from tests.fixtures.product import sessions_wait

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization
    from tests.fixtures.api import ApiClient

USAGE = f"{BILLING}/usage"
ALL = ["model", "user", "category", "key", "tag"]


async def turn_on(api_client: ApiClient, *dimensions: str) -> Any:
    answer = await api_client.call("PUT", f"{USAGE}/dimensions", {"dimensions": [*dimensions]})
    assert answer.status == 200, answer.body
    # As if it had been turned on long ago: the totals of this hour are complete.
    await api_client.pool.execute("UPDATE accounts SET usage_dimensions_since = '2020-01-01Z'")
    return answer.json


async def some_usage(api_client: ApiClient) -> None:
    await use(api_client, 100)
    await use(api_client, -4, category="chat", userId="ann", metadata={"model": "m1"}, quantity=7)
    await use(api_client, -2, category="chat", userId="bob", metadata={"model": "m2"}, tags=["a"])
    await use(api_client, -1, userId="ann", metadata={"model": "m1"}, tags=["a", "b"])
    await use(api_client, -0.5)


async def report(api_client: ApiClient, **query: str) -> Any:
    answer = await api_client.get(USAGE, **query)
    assert answer.status == 200, answer.body
    return answer.json


@pytest.mark.parametrize("dimensions", [[], ALL], ids=["rows", "totals"])
async def test_usage_is_grouped_and_filtered_by_any_dimension(
    api_client: ApiClient, organization: Organization, dimensions: list[str]
) -> None:
    await turn_on(api_client, *dimensions)
    await some_usage(api_client)
    found = await report(api_client, groupBy="user,model")
    assert found["source"] == ("totals" if dimensions else "rows")
    assert [(row["user"], row["model"], row["cost"]) for row in found["data"]] == [
        ("ann", "m1", 5),
        ("bob", "m2", 2),
        (None, None, 0.5),
    ]
    assert found["total"] == {"quantity": 7, "cost": 7.5, "transactions": 4}
    tags = await report(api_client, groupBy="tag")
    assert [(row["tag"], row["cost"]) for row in tags["data"]] == [(None, 4.5), ("a", 3), ("b", 1)]
    assert tags["total"]["cost"] == 7.5
    one = await report(api_client, groupBy="day,category", user="ann")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert [(row["day"], row["category"], row["cost"]) for row in one["data"]] == [
        (today, "chat", 4),
        (today, None, 1),
    ]
    assert (await report(api_client, tag="a", key="no-key"))["data"] == []
    assert (await report(api_client, tag="b"))["data"][0]["cost"] == 1
    top = await report(api_client, groupBy="key,user", limit="1")
    assert (top["data"][0]["user"], top["truncated"]) == ("ann", True)


async def test_usage_belongs_to_the_hour_in_which_it_took_effect(
    api_client: ApiClient, organization: Organization
) -> None:
    await turn_on(api_client, "user")
    await use(api_client, 10)
    await use(api_client, -1, effectiveOn="2026-03-01T10:30:00Z", userId="ann")
    period = {"from": "2026-03-01T10:00:00Z", "to": "2026-03-01T10:31:00Z"}
    found = await report(api_client, groupBy="user", **period)
    assert (found["periodEnd"], found["total"]["cost"]) == ("2026-03-01T11:00:00Z", 1)
    before = {"from": "2026-03-01T09:00:00Z", "to": "2026-03-01T10:00:00Z"}
    assert (await report(api_client, **before))["total"]["cost"] == 0


async def test_usage_that_is_dated_ahead_is_part_of_the_hour_that_it_is_dated(
    api_client: ApiClient, organization: Organization
) -> None:
    await use(api_client, 10)
    ahead = datetime.now(UTC) + EFFECTIVE_AHEAD_MAX - timedelta(minutes=1)
    await use(api_client, -1, effectiveOn=ahead.isoformat())
    await use(api_client, -2, effectiveOn="2026-03-01T10:30:00Z")
    found = await report(api_client, **{"from": ahead.isoformat(), "to": ahead.isoformat()})
    assert (found["source"], found["total"]["cost"]) == ("rows", 1)


async def test_dimensions_change_after_the_postings_in_progress(
    pool: Pool, organization: Organization
) -> None:
    async with pool.acquire() as posting, pool.acquire() as changing:
        async with posting.transaction():
            await posting.execute("UPDATE accounts SET updated_at = clock_timestamp()")
            change = asyncio.create_task(change_in(changing, organization))
            await sessions_wait(pool)
            last = await posting.fetchval("SELECT clock_timestamp()")
        assert (await change).since > last


async def change_in(connection: Connection, owner: Organization) -> Any:
    async with connection.transaction():
        return await service.change_dimensions(connection, owner.id, frozenset({Dimension.USER}))


async def test_what_has_no_totals_and_too_many_rows_is_422_with_the_way_to_turn_it_on(
    api_client: ApiClient, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "ROWS_MAX", 2)
    await some_usage(api_client)
    answer = await api_client.get(USAGE, groupBy="user")
    assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["query", "groupBy"])
    assert "usage/dimensions" in answer.json["detail"]
    await turn_on(api_client, "user")
    assert (await report(api_client, groupBy="user"))["source"] == "totals"
    assert (await api_client.get(USAGE, groupBy="model")).status == 422


async def test_wrong_queries_are_refused_with_their_place(
    api_client: ApiClient, organization: Organization
) -> None:
    now = datetime.now(UTC)
    wrong = {
        "groupBy": "colour",
        "from": "yesterday",
        "to": (now - timedelta(days=400)).isoformat(),
        "limit": "0",
        "user": "",
    }
    for name, value in wrong.items():
        answer = await api_client.get(USAGE, **{name: value})
        assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["query", name]), name
    long = {"from": (now - timedelta(days=101)).isoformat()}
    assert (await api_client.get(USAGE, **long)).json["errors"][0]["loc"] == ["query", "from"]
    answer = await api_client.call("PUT", f"{USAGE}/dimensions", {"dimensions": ["day"]})
    assert answer.status == 422


async def test_dimensions_are_shown_and_a_change_is_recorded(
    api_client: ApiClient, organization: Organization
) -> None:
    off: dict[str, Any] = {"dimensions": [], "totalsFrom": None}
    assert (await api_client.get(f"{USAGE}/dimensions")).json == off
    on = await turn_on(api_client, "user", "model", "user")
    assert on["dimensions"] == ["model", "user"]
    assert datetime.fromisoformat(on["totalsFrom"]) > datetime.now(UTC)
    fewer = await turn_on(api_client, "user")
    assert fewer["totalsFrom"] == "2020-01-01T02:00:00Z"
    assert (await turn_on(api_client, "user"))["totalsFrom"] == "2020-01-01T02:00:00Z"
    more = await turn_on(api_client, "user", "category")
    assert datetime.fromisoformat(more["totalsFrom"]) > datetime.now(UTC)
    assert await turn_on(api_client) == off
    entries = await api_client.pool.fetch(
        "SELECT details FROM audit_log WHERE action = 'billing.usage_dimensions' ORDER BY at, id"
    )
    assert [entry["details"]["dimensions"] for entry in entries[:2]] == [
        ["model", "user"],
        ["user"],
    ]
