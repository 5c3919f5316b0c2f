"""R3: each act needs its own scope, also where the body decides; and a browser's sessions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from shared.ledger.origin import KEY_ID, REQUEST_ID
from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient, document
from worker.cleaners import SessionCleaner

if TYPE_CHECKING:
    from shared.db.pool import Pool

TRANSACTIONS = "/api/credit-transactions"
BATCH = "/v1/billing/acme/transactions/batch"
SETTINGS = "/v1/organizations/acme/billing"
SESSIONS = "/v1/billing/sessions"
SCOPES = ("usage", "purchases", "grants", "billing", "read")
HUGE = 10**15
ON = {
    "autoRechargeEnabled": True,
    "autoRechargeThresholdDecimillicents": 100_000_000,
    "autoRechargeAmountDecimillicents": 250_000_000,
}


async def spend(client: ApiClient, amount: float, **fields: Any) -> tuple[int, str | None]:
    asked = {"organizationId": "acme", "amount": amount, **fields}
    answer = await client.post(TRANSACTIONS, asked)
    return answer.status, answer.json.get("type")


async def scope_names(client: ApiClient, organization: Organization) -> dict[str, ApiClient]:
    return {scope: await client.make_key(scope, organization) for scope in SCOPES}


async def balance(client: ApiClient) -> Any:
    return (await client.get("/v1/billing/acme/credits")).json["balance"]


async def test_r3_each_act_is_refused_without_its_own_scope(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    """R3: a write key could grant, overdraw without end, turn recharge on and resume."""
    acts: list[tuple[str, str, str, Any]] = [
        ("usage", "POST", "/v1/billing/acme/holds", {"amount": 1}),
        ("grants", "POST", TRANSACTIONS, {"organizationId": "acme", "amount": HUGE}),
        ("grants", "POST", "/v1/billing/acme/grants", {"amount": HUGE}),
        ("purchases", "POST", "/v1/billing/acme/top-up", {"amount": 9_999}),
        ("billing", "PATCH", SETTINGS, {"consentedBy": "somebody", **ON}),
        ("billing", "POST", "/v1/billing/acme/auto-recharge/resume", {}),
    ]
    clients = await scope_names(api_client, organization)
    for needed, method, path, body in acts:
        for scope, client in clients.items():
            answer = await client.call(method, path, body)
            assert (answer.status == 403) is (scope != needed), (path, scope, answer.json)
    assert await pool.fetchval("SELECT count(*) FROM credit_transactions") == 2


async def test_r3_overdraft_beyond_the_limit_needs_the_scope_grants(
    api_client: ApiClient, organization: Organization
) -> None:
    """R3: -10**18 with `overdraft` at limit 0 was posted for any write key."""
    await api_client.post("/v1/billing/acme/grants", {"amount": 10})
    usage = await api_client.make_key("usage", organization)
    granting = await api_client.make_key("usage,grants", organization)
    over = {"onInsufficient": "overdraft"}
    assert await spend(usage, -4, transactionId="1", **over) == (200, "usage")
    assert await spend(usage, -(10**18), transactionId="2", **over) == (403, "permission_error")
    assert await spend(usage, -7, transactionId="2") == (402, "insufficient_credits_error")
    items = [{"amount": -7, "transactionId": "3", **over}, {"amount": -1, "transactionId": "4"}]
    batch = (await usage.post(BATCH, {"transactions": items})).json["results"]
    assert [item["status"] for item in batch] == ["insufficient", "posted"]
    assert batch[0]["error"]["type"] == "permission_error"
    assert await balance(api_client) == 5
    assert await spend(granting, -7, transactionId="2", **over) == (200, "usage")
    # The same request is the same with any key: it is no conflict, and not posted twice.
    assert await spend(granting, -4, transactionId="1", **over) == (200, "usage")
    assert await balance(api_client) == -2


async def test_an_overdraft_within_the_limit_needs_usage_alone(
    api_client: ApiClient, organization: Organization
) -> None:
    await api_client.call("PATCH", SETTINGS, {"overdraftLimitDecimillicents": 50_000_000})
    usage = await api_client.make_key("usage", organization)
    over = {"onInsufficient": "overdraft"}
    assert (await spend(usage, -5, **over))[0] == 200
    assert (await spend(usage, -1, **over))[0] == 403


@pytest.mark.parametrize(
    ("scope", "fields", "status"),
    [
        ("usage", {"amount": -1}, 200), ("usage", {"amount": 1}, 403),
        ("usage", {"amount": -1, "type": "adjustment"}, 403), ("grants", {"amount": 1}, 200),
        ("grants", {"amount": 1, "type": "bonus"}, 200), ("grants", {"amount": -1}, 403),
        ("grants", {"amount": -1, "type": "adjustment"}, 200), ("read", {"amount": -1}, 403),
    ],
)  # fmt: skip
async def test_the_body_decides_between_usage_and_grants_alone_and_in_a_batch(
    api_client: ApiClient,
    organization: Organization,
    scope: str,
    fields: dict[str, Any],
    status: int,
) -> None:
    await api_client.post("/v1/billing/acme/grants", {"amount": 10})
    client = await api_client.make_key(scope, organization)
    assert (await spend(client, **fields))[0] == status
    answer = await client.post(BATCH, {"transactions": [fields]})
    if scope == "read":
        assert answer.status == 403
        return
    (result,) = answer.json["results"]
    assert result["status"] == ("posted" if status == 200 else "invalid")
    assert status == 200 or result["error"]["type"] == "permission_error"


async def test_a_set_of_scopes_is_their_sum_and_write_is_all_but_admin(
    api_client: ApiClient, organization: Organization
) -> None:
    both = await api_client.make_key("usage,read", organization)
    assert (await both.get(SETTINGS)).status == 200
    assert (await spend(both, -1, onInsufficient="overdraft"))[0] == 403
    assert (await both.post("/v1/billing/acme/grants", {"amount": 1})).status == 403
    write = await api_client.make_key("write", organization)
    assert (await write.post("/v1/billing/acme/grants", {"amount": 1})).status == 200
    limit = {"overdraftLimitDecimillicents": 1}
    assert (await write.call("PATCH", SETTINGS, limit)).status == 403


async def test_a_balance_is_read_with_usage_or_read_alone(
    api_client: ApiClient, organization: Organization
) -> None:
    clients = await scope_names(api_client, organization)
    allowed = {
        scope
        for scope, client in clients.items()
        if (await client.get("/v1/billing/acme/credits")).status == 200
    }
    assert allowed == {"usage", "read"}


def test_the_document_states_the_scopes_of_each_operation_and_has_the_webhook() -> None:
    paths = document()["paths"]
    grants = paths["/v1/billing/{organizationId}/grants"]["post"]
    assert grants["security"] == [{"bearer": ["grants"]}, {"apiKey": ["grants"]}]
    assert "scope `grants`" in grants["description"]
    either = paths["/api/credit-transactions"]["post"]["security"]
    assert [item["bearer"] for item in either if "bearer" in item] == [["usage"], ["grants"]]
    webhook = paths["/v1/webhooks/stripe"]["post"]
    assert webhook["security"] == []
    assert {"200", "400", "413", "503"} <= set(webhook["responses"])


# Who it was


async def test_each_row_and_each_entry_know_the_key_and_the_request(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    asked = {"organizationId": "acme", "amount": 5, "metadata": {"a": 1}, "transactionId": "t"}
    given = await api_client.call("POST", TRANSACTIONS, asked, headers={"X-Request-Id": "mine-1"})
    other = await api_client.make_key()
    again = await other.post(TRANSACTIONS, asked)
    assert (again.json, again.headers["Idempotent-Replayed"]) == (given.json, "true")
    assert given.json["metadata"] == {"a": 1}
    await spend(other, -1)
    rows = await pool.fetch("SELECT metadata FROM credit_transactions ORDER BY seq")
    keys = await pool.fetch("SELECT id, name FROM api_keys ORDER BY id")
    assert rows[0]["metadata"] == {"a": 1, KEY_ID: str(keys[0]["id"]), REQUEST_ID: "mine-1"}
    assert rows[1]["metadata"][KEY_ID] == str(keys[1]["id"])
    entry = await pool.fetchrow("SELECT * FROM audit_log")
    assert entry is not None
    assert (entry["key_id"], entry["request_id"], entry["organization_id"], entry["actor"]) == (
        keys[0]["id"], "mine-1", organization.id, f"key:{keys[0]['name']}",
    )  # fmt: skip


async def test_no_metadata_of_a_caller_has_a_name_of_ours(
    api_client: ApiClient, organization: Organization
) -> None:
    asked = {"amount": 1, "metadata": {KEY_ID: "x"}}
    for path in (TRANSACTIONS, "/v1/billing/acme/grants"):
        body = asked | ({"organizationId": "acme"} if path == TRANSACTIONS else {})
        assert (await api_client.post(path, body)).status == 422


async def test_a_key_of_idempotency_is_of_the_organization_in_the_body(
    api_client: ApiClient, organization: Organization
) -> None:
    """One header for two organizations that only the body tells apart: two requests."""
    await api_client.post("/v1/organizations", {"slug": "other", "name": "Other"})
    answers = [
        await api_client.post(
            TRANSACTIONS, {"organizationId": slug, "amount": 1}, idempotency_key="k"
        )
        for slug in ("acme", "other", "acme")
    ]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert answers[1].json["organization"]["slug"] == "other"
    assert answers[2].json == answers[0].json


async def test_an_organization_of_all_zeros_is_refused(api_client: ApiClient) -> None:
    asked = {"slug": "nil", "name": "Nil", "id": str(UUID(int=0))}
    answer = await api_client.post("/v1/organizations", asked)
    assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["body", "id"])
    assert (await api_client.get(f"/v1/organizations/{UUID(int=0)}")).status == 404


async def test_r3_a_consent_on_record_is_not_replaced_by_a_blank(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    assert (await api_client.call("PATCH", SETTINGS, ON | {"consentedBy": " "})).status == 422
    assert (await api_client.call("PATCH", SETTINGS, ON | {"consentedBy": "jo"})).status == 200
    change = {"autoRechargeMonthlyCountCap": 3, "consentedBy": " "}
    assert (await api_client.call("PATCH", SETTINGS, change)).status == 200
    assert await pool.fetchval("SELECT consented_by FROM auto_recharges") == "jo"


# Sessions


async def test_a_session_reads_and_buys_for_one_organization_and_opens_no_other(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    await api_client.post("/v1/organizations", {"slug": "other", "name": "Other"})
    opened = await api_client.post(SESSIONS, {"organizationId": "acme"})
    assert opened.json["scopes"] == ["purchases", "read"]
    left = datetime.fromisoformat(opened.json["expiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)
    token = opened.json["token"]
    assert token not in str(await pool.fetch("SELECT * FROM api_sessions"))
    browser = api_client.with_key(token)
    assert (await browser.get("/v1/billing/acme/credits")).status == 200
    assert (await browser.get("/v1/billing/other/credits")).status == 404
    assert (await browser.post("/v1/billing/acme/top-up", {"amount": 5})).status == 402  # no card
    assert (await browser.post(SESSIONS, {})).status == 403
    assert (await browser.call("PATCH", SETTINGS, ON | {"consentedBy": "jo"})).status == 403
    assert (await spend(browser, -1))[0] == 403


async def test_a_session_ends_with_its_time_and_with_its_key_and_is_deleted(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    backend = await api_client.make_key("billing,read,purchases", organization)
    tokens = [(await backend.post(SESSIONS, {})).json["token"] for _ in range(2)]
    browsers = [api_client.with_key(token) for token in tokens]
    assert (await browsers[0].get(SETTINGS)).status == 200
    await pool.execute("UPDATE api_sessions SET expires_at = now() - interval '2 hours'")
    assert (await browsers[1].get(SETTINGS)).status == 401
    assert await SessionCleaner(pool).clean() == 2
    ending = api_client.with_key((await backend.post(SESSIONS, {})).json["token"])
    await pool.execute("UPDATE api_keys SET revoked_at = now() WHERE organization_id IS NOT NULL")
    assert (await ending.get(SETTINGS)).status == 401


async def test_nobody_gives_a_browser_rights_that_the_key_lacks(
    api_client: ApiClient, organization: Organization
) -> None:
    for scope in ("billing", "billing,read", "read,purchases"):
        client = await api_client.make_key(scope, organization)
        assert (await client.post(SESSIONS, {})).status == 403
