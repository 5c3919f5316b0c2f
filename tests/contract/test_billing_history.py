"""The client shape `billing` over HTTP: balance, history, usage and attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from api.framework import cursors
from tests.fixtures.billing import BILLING, CREDIT, use

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from tests.fixtures.api import ApiClient


async def test_the_balance_is_that_of_now_or_of_a_moment(
    api_client: ApiClient, organization: Organization
) -> None:
    first = await use(api_client, 10)
    await use(api_client, -4.000000001)
    now = (await api_client.get(f"{BILLING}/credits")).json
    assert (now["balance"], now["creditsBalanceDecimillicents"]) == (5.999999999, 59_999_999)
    then = (await api_client.get(f"{BILLING}/credits", at=first["createdOn"])).json
    assert (then["balance"], then["reservedCreditsDecimillicents"]) == (10, None)
    before = (await api_client.get(f"{BILLING}/credits", at="2020-01-01T00:00:00Z")).json
    assert before["creditsBalanceDecimillicents"] == 0
    ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for wrong in (ahead, "yesterday", "2020-01-01T00:00:00", "0001-01-01T00:00:00Z"):
        answer = await api_client.get(f"{BILLING}/credits", at=wrong)
        assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["query", "at"])


async def test_a_balance_beyond_64_bits_is_shown_to_the_last_digit(
    api_client: ApiClient, organization: Organization
) -> None:
    await use(api_client, 10**18)
    found = await api_client.get(f"{BILLING}/credits")
    assert found.json["creditsBalanceDecimillicents"] == 10**25


async def test_history_leads_forth_and_back_and_misses_nothing(
    api_client: ApiClient, organization: Organization
) -> None:
    for amount in (100, -1, -2, -3, -4):
        await use(api_client, amount, metadata={"job": "j"}, transactionId=f"t{amount}")
    path = f"{BILLING}/credits/history"
    first = (await api_client.get(path, limit="2")).json
    assert (first["total"], first["prevCursor"]) == (5, None)
    assert [row["amount"] for row in first["data"]] == [-4, -3]
    assert first["data"][0]["entryType"] == "charge"
    assert (first["data"][0]["referenceId"], first["data"][0]["balanceAfter"]) == ("t-4", 90)
    assert first["data"][0]["metadata"] == {"job": "j"}
    second = (await api_client.get(path, limit="2", cursor=first["nextCursor"])).json
    last = (await api_client.get(path, limit="2", cursor=second["nextCursor"])).json
    assert [row["amount"] for row in second["data"] + last["data"]] == [-2, -1, 100]
    assert last["nextCursor"] is None
    back = (await api_client.get(path, limit="2", cursor=last["prevCursor"])).json
    assert back["data"] == second["data"]
    assert (await api_client.get(path, limit="2", cursor=back["prevCursor"])).json == first
    grants = (await api_client.get(f"{BILLING}/grants")).json
    for wrong in ("x", "-x", "-", "", "ä", "a" * 300, str(grants["nextCursor"])):
        answer = await api_client.get(path, cursor=wrong)
        assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["query", "cursor"])


async def test_a_page_of_newer_rows_never_repeats_what_was_seen(
    api_client: ApiClient, organization: Organization
) -> None:
    for amount in (1, 2, 3, 4, 5):
        await use(api_client, amount)
    path = f"{BILLING}/credits/history"
    first = (await api_client.get(path, limit="1")).json
    second = (await api_client.get(path, limit="3", cursor=first["nextCursor"])).json
    assert [row["amount"] for row in second["data"]] == [4, 3, 2]
    back = (await api_client.get(path, limit="3", cursor=second["prevCursor"])).json
    assert back == first
    for amount in (6, 7, 8):
        await use(api_client, amount)
    newer = (await api_client.get(path, limit="3", cursor=second["prevCursor"])).json
    assert [row["amount"] for row in newer["data"]] == [7, 6, 5]
    newest = (await api_client.get(path, limit="3", cursor=newer["prevCursor"])).json
    assert ([row["amount"] for row in newest["data"]], newest["prevCursor"]) == ([8], None)
    again = (await api_client.get(path, limit="3", cursor=newest["nextCursor"])).json
    assert again["data"] == newer["data"]


async def test_a_cursor_beyond_either_end_leads_back(
    api_client: ApiClient, organization: Organization
) -> None:
    await use(api_client, 1)
    path = f"{BILLING}/credits/history"
    beyond = "-" + cursors.encode("history", 7)
    found = (await api_client.get(path, cursor=beyond)).json
    assert (found["data"], found["prevCursor"]) == ([], None)
    (row,) = (await api_client.get(path, cursor=found["nextCursor"])).json["data"]
    assert row["amount"] == 1
    before_all = (await api_client.get(path, cursor=cursors.encode("history", 0))).json
    assert (before_all["data"], before_all["nextCursor"]) == ([], None)
    assert (await api_client.get(path, cursor=before_all["prevCursor"])).json["data"] == [row]


async def test_an_empty_history_is_a_page(
    api_client: ApiClient, organization: Organization
) -> None:
    found = (await api_client.get(f"{BILLING}/credits/history")).json
    assert found == {"data": [], "nextCursor": None, "prevCursor": None, "total": 0}


async def test_usage_is_told_for_whole_hours(
    api_client: ApiClient, organization: Organization
) -> None:
    path = "/v1/organizations/acme/usage"
    await use(api_client, 100)
    for hour, quantity in ((1, 10), (2, 20), (3, 30)):
        moment = f"2026-01-05T0{hour}:30:00Z"
        await use(api_client, -1, category="tokens", quantity=quantity, effectiveOn=moment)
    asked = {"periodStart": "2026-01-05T02:10:00Z", "periodEnd": "2026-01-05T02:40:00Z"}
    found = (await api_client.get(path, category="tokens", **asked)).json
    assert found == {
        "organizationId": str(organization.id),
        "category": "tokens",
        "periodStart": "2026-01-05T02:00:00Z",
        "periodEnd": "2026-01-05T03:00:00Z",
        "totalQuantity": 20,
        "totalCostDecimillicents": CREDIT,
    }
    await use(api_client, -2, category="tokens", quantity=7)
    month = (await api_client.get(path, category="tokens")).json
    assert (month["totalQuantity"], month["totalCostDecimillicents"]) == (7, 2 * CREDIT)
    missing = await api_client.get(path)
    assert (missing.status, missing.json["errors"][0]["loc"]) == (422, ["query", "category"])
    for name, wrong in (("periodEnd", "2001-01-01T00:00:00Z"), ("periodStart", "x")):
        answer = await api_client.get(path, category="tokens", **{name: wrong})
        assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["query", name])


async def test_attempts_come_in_pages(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    await pool.execute(
        "INSERT INTO recharge_attempts (organization_id, id, state, created_at, settled_at, reason)"
        " SELECT $1, gen_random_uuid(), 'canceled', now() - n / 2 * interval '1 second', now(), 'x'"
        " FROM generate_series(1, 5) AS n",
        organization.id,
    )
    path, seen = f"{BILLING}/auto-recharge/attempts", []
    cursor: dict[str, str] = {}
    while True:
        page = (await api_client.get(path, limit="2", **cursor)).json
        seen += [row["id"] for row in page["data"]]
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}
    assert len(seen) == len(set(seen)) == 5
    for wrong in ("x", "MTphdHRlbXB0czp4", "MTphdHRlbXB0czo5OTk5OTk5OTk5OTk5OTk5OTk5OTk5Lng"):
        answer = await api_client.get(path, cursor=wrong)
        assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["query", "cursor"])
