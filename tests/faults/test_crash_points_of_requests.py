"""A web process killed at a named step of a request: the request is repeated, and counts once."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.crash_points import steps
from tests.crash_points.steps import Step
from tests.fixtures.api import ApiClient
from tests.fixtures.crash_points import Killer, shops
from tests.fixtures.ledger import balances, grant, post, problems
from tests.fixtures.product import Answer, create_organization
from tests.fixtures.recharging import Shop
from tests.fixtures.storefront import Storefront

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

LEASES_OVER = "UPDATE idempotent_requests SET locked_until = now() WHERE answer IS NULL"
URLS = {"successUrl": "https://app.example/thanks", "cancelUrl": "https://app.example/credits"}


@dataclass(frozen=True)
class Request:
    """A request of an app, which repeats it until it is answered."""

    client: ApiClient
    path: str
    body: dict[str, Any]
    key: str | None = None

    async def kill(self, killer: Killer, step: Step) -> None:
        """Send it to a web process that dies at a step; then the leases of that process end."""
        headers = {"Authorization": f"Bearer {self.client.key}", "Content-Type": "application/json"}
        if self.key is not None:
            headers["Idempotency-Key"] = self.key
        body = msgspec.json.encode(self.body).decode()
        await killer.kill(step, "request", path=self.path, body=body, headers=headers)
        await self.client.pool.execute(LEASES_OVER)

    async def repeat(self) -> Answer:
        """Send it to a process that lives."""
        headers = {} if self.key is None else {"idempotency_key": self.key}
        return await self.client.post(self.path, self.body, **headers)


def is_replay(answer: Answer) -> bool:
    return "Idempotent-Replayed" in answer.headers


async def test_a_top_up_whose_web_process_is_killed_charges_and_credits_once(
    killer: Killer, shop: Shop, paying_client: ApiClient
) -> None:
    async for step, here in shops(killer, shop, steps.TOP_UP):
        await here.save_card()
        path = f"/v1/billing/{here.owner.slug}/top-up"
        request = Request(paying_client, path, {"amount": 20}, key="top-up")
        await request.kill(killer, step)
        assert (await request.repeat()).status == 200, step.name
        await here.work_until_settled()
        again = await request.repeat()
        assert (again.status, again.json["state"]) == (200, "succeeded"), step.name
        assert await here.captures() == [2000], step.name
        assert [row["state"] for row in await here.attempts()] == ["succeeded"], step.name
        assert await balances(shop.pool, here.owner) == (20, 0), step.name


async def test_a_checkout_whose_web_process_is_killed_sells_once(
    killer: Killer, storefront: Storefront, paying_client: ApiClient
) -> None:
    for number, step in killer.cases(steps.CHECKOUT):
        owner = await create_organization(storefront.pool, f"acme-{number}")
        body = {"organizationId": owner.slug, "amount": 25, **URLS}
        request = Request(paying_client, "/v1/billing/checkout", body, key="checkout")
        await request.kill(killer, step)
        opened, again = await request.repeat(), await request.repeat()
        assert (opened.status, opened.json) == (200, again.json), step.name
        await storefront.pay(opened.json["id"])
        await storefront.deliver_new()
        purchases = await storefront.pool.fetch(
            "SELECT state, checkout_session_id FROM purchases WHERE organization_id = $1", owner.id
        )
        assert [tuple(row) for row in purchases] == [("paid", opened.json["id"])], step.name
        assert await balances(storefront.pool, owner) == (25, 0), step.name


async def test_a_request_with_a_key_takes_effect_once_wherever_its_web_process_is_killed(
    killer: Killer, pool: Pool, api_client: ApiClient
) -> None:
    for number, step in killer.cases(steps.KEY):
        body = {"slug": f"made-{number}", "name": "Made", "currency": "usd"}
        request = Request(api_client, "/v1/organizations", body, key=f"make-{number}")
        await request.kill(killer, step)
        made, again = await request.repeat(), await request.repeat()
        assert (made.status, is_replay(made)) == (201, step is steps.KEY[-1]), step.name
        assert (again.json, is_replay(again)) == (made.json, True), step.name
        audited = await pool.fetchval(
            "SELECT count(*) FROM audit_log WHERE organization_id::text = $1", made.json["id"]
        )
        assert audited == 1, step.name


@pytest.fixture
async def owner(pool: Pool, organization: Organization) -> Organization:
    """Return an organization with 1,000 credits."""
    await post(pool, grant(organization, 1000))
    return organization


async def test_a_hold_whose_web_process_is_killed_reserves_once(
    killer: Killer, pool: Pool, api_client: ApiClient, owner: Organization
) -> None:
    for number, step in killer.cases(steps.HOLD):
        body = {"amount": 2, "transactionId": f"job-{number}"}
        request = Request(api_client, "/v1/billing/acme/holds", body)
        await request.kill(killer, step)
        answer = await request.repeat()
        assert (answer.status, is_replay(answer)) == (200, step is steps.HOLD[-1]), step.name
        assert await balances(pool, owner) == (1000, 2 * (number + 1)), step.name


async def hold_of(client: ApiClient) -> str:
    held = await client.post("/v1/billing/acme/holds", {"amount": 5})
    return f"/v1/billing/acme/holds/{held.json['id']}"


@pytest.mark.parametrize("final", [True, False])
async def test_a_capture_whose_web_process_is_killed_is_charged_once(
    killer: Killer, pool: Pool, api_client: ApiClient, owner: Organization, *, final: bool
) -> None:
    for number, step in killer.cases(steps.CAPTURE):
        body = {"amount": 2, "final": final, "transactionId": f"used-{number}"}
        request = Request(api_client, f"{await hold_of(api_client)}/capture", body)
        await request.kill(killer, step)
        answer = await request.repeat()
        assert (answer.status, is_replay(answer)) == (200, step is steps.CAPTURE[-1]), step.name
        reserved = 0 if final else 3 * (number + 1)
        assert await balances(pool, owner) == (1000 - 2 * (number + 1), reserved), step.name
    assert await problems(pool) == []


async def test_a_release_whose_web_process_is_killed_gives_back_once(
    killer: Killer, pool: Pool, api_client: ApiClient, owner: Organization
) -> None:
    for _, step in killer.cases(steps.RELEASE):
        request = Request(api_client, f"{await hold_of(api_client)}/release", {})
        await request.kill(killer, step)
        answer = await request.repeat()
        assert (answer.status, answer.json["status"]) == (200, "released"), step.name
        assert is_replay(answer) == (step is steps.RELEASE[-1]), step.name
        assert await balances(pool, owner) == (1000, 0), step.name


@pytest.mark.parametrize("key", [None, "batch"])
async def test_a_batch_of_debits_whose_web_process_is_killed_is_posted_once(
    killer: Killer, pool: Pool, api_client: ApiClient, owner: Organization, key: str | None
) -> None:
    for number, step in killer.cases(steps.KEYED_BATCH if key else steps.BATCH):
        debits = [{"amount": -1, "transactionId": f"used-{number}-{n}"} for n in range(3)]
        path, body = "/v1/billing/acme/transactions/batch", {"transactions": debits}
        request = Request(api_client, path, body, key and f"{key}-{number}")
        await request.kill(killer, step)
        answer, again = await request.repeat(), await request.repeat()
        committed = "committed" in step.name
        found = "replayed" if committed and key is None else "posted"
        statuses = [result["status"] for result in answer.json["results"]]
        assert statuses == [found] * 3, step.name
        assert is_replay(answer) == (committed and key is not None), step.name
        ids = [[r["transaction"]["id"] for r in a.json["results"]] for a in (answer, again)]
        assert ids[0] == ids[1], step.name
        assert await balances(pool, owner) == (Decimal(1000 - 3 * (number + 1)), 0), step.name
    assert await problems(pool) == []


async def test_a_cancellation_whose_web_process_is_killed_cancels_once_and_charges_nothing(
    killer: Killer, shop: Shop, paying_client: ApiClient
) -> None:
    async for step, here in shops(killer, shop, steps.CANCELLATION):
        await here.open("pm_card_authenticationRequired")
        await here.work()
        attempt = await here.attempt()
        assert attempt["state"] == "requires_action"
        path = f"/v1/billing/{here.owner.slug}/auto-recharge/attempts/{attempt['id']}/cancel"
        request = Request(paying_client, path, {"reason": "paid by invoice"}, key="cancel")
        await request.kill(killer, step)
        await here.pool.execute(
            "UPDATE recharge_attempts SET due_at = now() WHERE settled_at IS NULL"
        )
        answer = await request.repeat()
        assert (answer.status, answer.json["state"]) == (200, "canceled"), step.name
        await here.work()
        intent = await shop.client.v1.payment_intents.retrieve_async(attempt["payment_intent_id"])
        assert (intent.status, await here.captures()) == ("canceled", []), step.name
        assert [row["state"] for row in await here.attempts()] == ["canceled"], step.name
        audited = await shop.pool.fetchval(
            "SELECT count(*) FROM audit_log WHERE action = 'recharge.cancel' AND subject = $1",
            str(attempt["id"]),
        )
        assert audited == 1, step.name
