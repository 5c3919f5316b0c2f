"""Budgets and alerts over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.access.model import Scope
from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.ledger import grant, post

if TYPE_CHECKING:
    from shared.db.pool import Pool

BUDGETS, ALERTS = "/v1/billing/acme/budgets", "/v1/billing/acme/alerts"
DEBITS = "/api/credit-transactions"


def budget(**fields: Any) -> dict[str, Any]:
    return {"subjectKind": "user", "subject": "jo", "window": "total", "limit": 5} | fields


def debit(amount: float, **fields: Any) -> dict[str, Any]:
    return {"organizationId": "acme", "amount": -amount, "userId": "jo"} | fields


async def test_a_debit_beyond_a_budget_is_a_402_with_its_numbers(
    api_client: ApiClient, pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    made = await api_client.post(BUDGETS, budget(limit=5.5))
    assert made.status == 201
    assert (await api_client.post(DEBITS, debit(3))).status == 200
    hold = {"amount": 2, "userId": "jo"}
    assert (await api_client.post("/v1/billing/acme/holds", hold)).status == 200
    for path, asked in ((DEBITS, debit(1.25)), ("/v1/billing/acme/holds", hold)):
        refused = await api_client.post(path, asked)
        assert (refused.status, refused.json["type"]) == (402, "budget_exceeded_error")
        assert refused.json["budgetId"] == made.json["id"]
        numbers = [refused.json[name] for name in ("limit", "used", "held", "available")]
        assert numbers == [5.5, 3, 2, 0.5]
        assert refused.json["resetsAt"] is None
        assert "0.5 are left in the budget of the user jo" in refused.json["detail"]
    state = (await api_client.get(f"{BUDGETS}/{made.json['id']}")).json
    assert [state[name] for name in ("used", "held", "left", "spent")] == [3, 2, 0.5, False]


async def test_usage_that_has_happened_passes_a_budget_with_the_scope_for_it(
    api_client: ApiClient, pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    made = await api_client.post(BUDGETS, budget(limit=0))
    asked = debit(3, transactionId="t", onInsufficient="overdraft")
    limited = await api_client.make_key(Scope.USAGE)
    assert (await limited.post(DEBITS, asked)).json["type"] == "budget_exceeded_error"
    grants = await api_client.make_key("usage,grants")
    assert (await grants.post(DEBITS, asked)).status == 200
    assert (await limited.post(DEBITS, asked)).headers["Idempotent-Replayed"] == "true"
    assert (await api_client.get(f"{BUDGETS}/{made.json['id']}")).json["used"] == 3


async def test_a_batch_posts_what_the_budget_allows(
    api_client: ApiClient, pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    await api_client.post(BUDGETS, budget())
    items = [
        {"amount": -3, "userId": user, "transactionId": f"t{n}"} for n, user in enumerate("ab")
    ]
    items += [{"amount": -3, "userId": "jo", "transactionId": f"j{n}"} for n in range(2)]
    answer = await api_client.post("/v1/billing/acme/transactions/batch", {"transactions": items})
    results = answer.json["results"]
    assert [r["status"] for r in results] == ["posted", "posted", "posted", "budget_exceeded"]
    assert results[3]["error"]["code"] == 402


async def test_a_budget_of_zero_is_spent_before_anything_is_used(
    api_client: ApiClient, pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    made = (await api_client.post(BUDGETS, budget(limit=0))).json
    assert [made[name] for name in ("used", "left", "spent")] == [0, 0, True]
    refused = await api_client.post(DEBITS, debit(1))
    assert (refused.status, refused.json["available"]) == (402, 0)


async def test_budgets_are_listed_changed_and_removed(
    api_client: ApiClient, pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    first = (await api_client.post(BUDGETS, budget(window="day"))).json
    each = (await api_client.post(BUDGETS, budget(subject="*", thresholds=[50]))).json
    await api_client.post(DEBITS, debit(4))
    page = (await api_client.get(f"{BUDGETS}?limit=1")).json
    assert [row["id"] for row in page["data"]] == [each["id"]]
    assert page["data"][0]["used"] is None
    assert page["data"][0]["subjects"] == [{"subject": "jo", "used": 4, "held": 0, "left": 1}]
    rest = (await api_client.get(f"{BUDGETS}?cursor={page['nextCursor']}")).json
    assert [(row["id"], row["used"]) for row in rest["data"]] == [(first["id"], 4)]
    assert rest["nextCursor"] is None
    path = f"{BUDGETS}/{first['id']}"
    changed = await api_client.call("PATCH", path, {"limit": 2, "thresholds": []})
    assert (changed.json["limit"], changed.json["spent"], changed.json["left"]) == (2, True, 0)
    assert (await api_client.post(DEBITS, debit(1))).status == 402
    assert (await api_client.call("DELETE", path)).json == {"id": first["id"], "removed": True}
    assert (await api_client.get(path)).status == 404
    assert (await api_client.call("DELETE", path)).status == 404
    assert (await api_client.post(DEBITS, debit(1))).status == 200


async def test_an_api_key_can_have_a_budget(
    api_client: ApiClient, pool: Pool, organization: Organization
) -> None:
    await post(pool, grant(organization, 100))
    key = await api_client.make_key(Scope.USAGE)
    key_id = await pool.fetchval("SELECT id FROM api_keys ORDER BY created_at DESC LIMIT 1")
    await api_client.post(BUDGETS, budget(subjectKind="key", subject=str(key_id).upper()))
    assert (await key.post(DEBITS, debit(5))).status == 200
    assert (await key.post(DEBITS, debit(1))).status == 402
    assert (await api_client.post(DEBITS, debit(1))).status == 200


async def test_alerts_are_set_and_returned_in_order(
    api_client: ApiClient, organization: Organization
) -> None:
    assert (await api_client.get(ALERTS)).json == {"thresholds": [], "lowBalanceThreshold": None}
    put = await api_client.call("PUT", ALERTS, {"thresholds": [50, 2.5, 50]})
    assert put.json == {"thresholds": [2.5, 50], "lowBalanceThreshold": None}
    settings = {"lowBalanceThresholdDecimillicents": 100_000_000}
    await api_client.call("PATCH", "/v1/organizations/acme/billing", settings)
    expected = {"thresholds": [2.5, 50], "lowBalanceThreshold": 10}
    assert (await api_client.get(ALERTS)).json == expected


@pytest.mark.parametrize("thresholds", [[-1], [1e-10], list(range(11)), ["5"], [10**19], "5"])
async def test_thresholds_that_are_no_amounts_are_refused(
    api_client: ApiClient, organization: Organization, thresholds: Any
) -> None:
    answer = await api_client.call("PUT", ALERTS, {"thresholds": thresholds})
    assert answer.status == 422
    assert answer.json["errors"][0]["loc"][:2] == ["body", "thresholds"]
