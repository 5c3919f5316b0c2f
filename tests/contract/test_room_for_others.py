"""Whoever asks for much, or knows no key, leaves connections for debits and webhooks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from api.framework import authenticator, shares
from shared.organizations.model import Organization
from tests.fixtures.api import ApiClient
from tests.fixtures.ledger import grant, post
from tests.fixtures.product import POOL_SIZE, Answer, connections, create_organization, until
from tests.integration.test_event_owners import waiting_for_locks

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

LIST = "/api/credit-transactions/list/"
SEARCH = "/api/v1/org/{}/credits/transactions?transaction_type=web_search"
OF_A_KEY = shares.search_limits(POOL_SIZE).of_key_max
OF_AN_ORGANIZATION = shares.connection_limits(POOL_SIZE).of_organization_max


async def are_waiting(connection: Connection, number: int) -> bool:
    """Whether so many others, or more, wait for a lock of this database."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM pg_locks AS l INNER JOIN pg_database AS d ON l.database = d.oid"
        " WHERE d.datname = current_database() AND NOT l.granted"
    )
    return found >= number


async def test_keys_that_nobody_gave_out_take_few_connections_and_are_remembered(
    api_client: ApiClient, pool: Pool
) -> None:
    made_up = [api_client.with_key(f"ppk_{number:040}") for number in range(40)]
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE api_keys")
        asking = [asyncio.create_task(c.get("/v1/organizations")) for c in made_up]
        await until(lambda: are_waiting(connection, 1))
        async with connections(pool, POOL_SIZE - 1 - authenticator.LOOK_UPS_AT_ONCE_MAX):
            assert await are_waiting(connection, 1)
    assert {answer.status for answer in await asyncio.gather(*asking)} == {401}
    async with connections(pool, POOL_SIZE):
        assert {(await c.get("/v1/organizations")).status for c in made_up} == {401}


@pytest.mark.parametrize(
    ("path", "body", "at_once"),
    [
        (LIST, {"filters": {"description": {"operator": "contains", "value": ["x"]}}}, OF_A_KEY),
        (LIST, None, OF_A_KEY),
        (SEARCH.format("acme"), None, 1),
        ("/v1/billing/acme/budgets", None, 1),
    ],
)
async def test_searches_wait_for_each_other_and_leave_connections_for_the_rest(
    api_client: ApiClient,
    organization: Organization,
    pool: Pool,
    path: str,
    body: Any,
    at_once: int,
) -> None:
    method = "GET" if body is None else "POST"
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE credit_transactions, accounts")
        asking = [asyncio.create_task(api_client.call(method, path, body)) for _ in range(20)]
        await until(lambda: are_waiting(connection, at_once))
        for _ in range(3):
            assert (await api_client.get("/v1/billing/acme/holds")).status == 200
        assert not await are_waiting(connection, at_once + 1)
    assert {answer.status for answer in await asyncio.gather(*asking)} == {200}


@pytest.mark.parametrize("key", ["one of all organizations", "one of its own"])
async def test_an_organization_whose_account_is_locked_leaves_connections_for_the_others(
    api_client: ApiClient, organization: Organization, pool: Pool, key: str
) -> None:
    """R6. Whatever takes its account's lock waits for its own share of the connections."""
    other = await create_organization(pool, "other")
    await post(pool, grant(organization, 100), grant(other, 100))
    its = api_client if key == "one of all organizations" else None
    its = its or await api_client.make_key("admin", organization)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "SELECT FROM accounts WHERE organization_id = $1 FOR UPDATE", organization.id
        )
        asking = [
            asyncio.create_task(its.call(method, f"/v1/{path}", body))
            for method, path, body in (
                ("POST", "billing/acme/holds", {"amount": 1}),
                ("POST", "billing/acme/grants", {"amount": 1}),
                ("POST", "billing/acme/transactions/batch", {"transactions": [{"amount": -1}]}),
                ("PATCH", "organizations/acme/billing", {"overdraftLimitDecimillicents": 10}),
                ("POST", "billing/acme/auto-recharge/resume", {}),
            )
            for _ in range(3)
        ]
        await waiting_for_locks(pool, OF_AN_ORGANIZATION)
        for path, body in (("holds", {"amount": 1}), ("grants", {"amount": 1})):
            assert (await api_client.post(f"/v1/billing/other/{path}", body)).status < 300
        debit = {"organizationId": "other", "amount": -1}
        assert (await api_client.post("/api/credit-transactions", debit)).status == 200
        assert (await api_client.get("/v1/billing/acme/credits")).status == 200
        await waiting_for_locks(pool, OF_AN_ORGANIZATION)
        assert not any(task.done() for task in asking)
    assert {answer.status for answer in await asyncio.gather(*asking)} <= {200, 201, 409}


async def test_a_search_of_another_organization_does_not_wait_for_those_of_one(
    api_client: ApiClient, organization: Organization, pool: Pool
) -> None:
    other = await create_organization(pool, "other")
    await post(pool, grant(organization, 100), grant(other, 100))
    its, others = [await api_client.make_key("read", owner) for owner in (organization, other)]
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE credit_transactions")
        asking = [asyncio.create_task(its.get(SEARCH.format("acme"))) for _ in range(20)]
        await until(lambda: are_waiting(connection, 1))
        assert (await its.get("/v1/billing/acme/holds")).status == 200
        assert not await are_waiting(connection, 2)
        asking.append(asyncio.create_task(others.get(SEARCH.format("other"))))
        await until(lambda: are_waiting(connection, 2))
    assert {answer.status for answer in await asyncio.gather(*asking)} == {200}


async def test_one_organization_cannot_fill_the_queue_and_is_refused_alone(
    api_client: ApiClient, organization: Organization, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = replace(shares.REQUEST_LIMITS, of_organization_max=4)
    monkeypatch.setattr(api_client.api.requests, "_limits", limits)
    other = await create_organization(pool, "other")
    await post(pool, grant(organization, 100), grant(other, 100))

    def debit(owner: str) -> asyncio.Task[Answer]:
        body = {"organizationId": owner, "amount": -1}
        return asyncio.create_task(api_client.post("/api/credit-transactions", body))

    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM accounts WHERE balance = 100 FOR UPDATE")
        asking = [debit("acme") for _ in range(6)]
        done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        refused = done.pop().result()
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        asking.append(debit("other"))
    answers = await asyncio.gather(*asking)
    assert answers[-1].status == 200
    assert sorted(answer.status for answer in answers[:-1]) == [200] * 4 + [503] * 2


async def test_browsers_of_one_organization_leave_the_requests_of_their_key_alone(
    api_client: ApiClient, organization: Organization, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = replace(shares.REQUEST_LIMITS, of_key_max=2)
    monkeypatch.setattr(api_client.api.requests, "_limits", limits)
    await create_organization(pool, "other")
    opened = await api_client.post("/v1/billing/sessions", {"organizationId": "acme"})
    browser = api_client.with_key(opened.json["token"])
    await browser.get("/v1/billing/acme/holds")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE credit_transactions")
        asking = [asyncio.create_task(browser.get(SEARCH.format("acme"))) for _ in range(3)]
        done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().status for task in done] == [503]
        assert (await api_client.get("/v1/billing/other/holds")).status == 200
    assert sorted([answer.status for answer in await asyncio.gather(*asking)]) == [200, 200, 503]
