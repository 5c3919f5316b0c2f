"""History and the transaction list by period, category, user, model, key and tag."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.ledger import export
from shared.ledger.model import TransactionType
from tests.fixtures.billing import BILLING, use
from tests.fixtures.timeline import timeline

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from tests.fixtures.api import ApiClient

HISTORY = f"{BILLING}/credits/history"


async def amounts(api_client: ApiClient, path: str = HISTORY, **query: str) -> list[Any]:
    """Return the amounts of all pages."""
    found: list[Any] = []
    cursor: dict[str, str] = {}
    for _ in range(100):
        page = (await api_client.get(path, **query, **cursor)).json
        found += [row["amount"] for row in page["data"]]
        if page["nextCursor"] is None:
            return found
        cursor = {"cursor": page["nextCursor"]}
    raise AssertionError("the pages have no end")


async def test_a_period_has_pages_of_its_own_in_both_directions(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    async with timeline(pool, organization) as line:
        for day in range(1, 9):
            await line.set(datetime(2026, 2, day, tzinfo=UTC))
            await line.post(TransactionType.GRANT, day)
    period = {"from": "2026-02-03T00:00:00Z", "to": "2026-02-07T00:00:00Z"}
    first = (await api_client.get(HISTORY, limit="2", **period)).json
    assert [row["amount"] for row in first["data"]] == [6, 5]
    assert (first["total"], first["prevCursor"]) == (4, None)
    second = (await api_client.get(HISTORY, limit="2", cursor=first["nextCursor"], **period)).json
    assert ([row["amount"] for row in second["data"]], second["nextCursor"]) == ([4, 3], None)
    back = (await api_client.get(HISTORY, limit="2", cursor=second["prevCursor"], **period)).json
    assert back == first
    assert await amounts(api_client, limit="3", to="2026-02-04T00:00:00Z") == [3, 2, 1]
    assert await amounts(api_client, **{"from": "2026-03-01T00:00:00Z"}) == []
    beyond = (await api_client.get(HISTORY, cursor=first["nextCursor"], to=period["from"])).json
    assert [row["amount"] for row in beyond["data"]] == [2, 1]


@pytest.mark.parametrize("read", [2, 10_000])
async def test_history_is_filtered_by_values_and_each_page_reads_a_limited_number_of_rows(
    api_client: ApiClient,
    organization: Organization,
    monkeypatch: pytest.MonkeyPatch,
    read: int,
) -> None:
    monkeypatch.setattr(export, "ROWS_READ_MAX", read)
    await use(api_client, 100)
    await use(api_client, -1, userId="ann", category="chat", metadata={"model": "m"})
    for number in (2, 3, 4):
        await use(api_client, -number, userId="bob", tags=["a"])
    await use(api_client, -5, userId="ann", tags=["a", "b"])
    assert await amounts(api_client, user="ann") == [-5, -1]
    assert await amounts(api_client, user="ann", limit="1") == [-5, -1]
    assert await amounts(api_client, category="chat", model="m") == [-1]
    assert await amounts(api_client, tag="a", user="bob", limit="2") == [-4, -3, -2]
    key = await api_client.pool.fetchval("SELECT id::text FROM api_keys")
    assert len(await amounts(api_client, key=key)) == 6
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert await amounts(api_client, user="ann", **{"from": soon}) == []
    page = (await api_client.get(HISTORY, user="nobody")).json
    assert (page["data"], page["prevCursor"], page["total"]) == ([], None, None)


async def test_the_transaction_list_is_filtered_by_category_user_and_model(
    api_client: ApiClient, organization: Organization
) -> None:
    await use(api_client, 100)
    await use(api_client, -1, userId="ann", category="chat", metadata={"model": "m1"})
    await use(api_client, -2, userId="bob", category="images", metadata={"model": "m2"})

    async def listed(**filters: Any) -> list[Any]:
        asked = {name: {"operator": op, "value": [v]} for name, (op, v) in filters.items()}
        path = "/api/credit-transactions/list/"
        answer = await api_client.post(path, {"filters": asked})
        assert answer.status == 200, answer.body
        return [row["amount"] for row in answer.json["results"]]

    assert await listed(category=("", "chat")) == [-1]
    assert await listed(user_id=("startswith", "b")) == [-2]
    assert await listed(model=("not", "m1")) == [-2, 100]
    assert await listed(model=("isnull", True)) == [100]
    assert await listed(category=("in", "images"), user_id=("", "ann")) == []
