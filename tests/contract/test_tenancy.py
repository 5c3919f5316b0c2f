"""Every operation with every kind of key: nobody is told of, or changes, what is another's."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.endpoints import OPERATIONS
from api.framework.operation import Operation, Retry
from shared.access import service as access
from shared.access.model import SESSION_SCOPES, Scope, parse_scopes
from shared.errors import AuthenticationError, NotFoundError, PermissionDeniedError
from tests.fixtures.api import ApiClient
from tests.fixtures.operation_requests import Request, check_refused, send
from tests.fixtures.operation_tenants import Tenant, World
from tests.fixtures.operations import Whose, name, needs, whose
from tests.fixtures.product import Answer

OF_AN_ORGANIZATION = [o for o in OPERATIONS if whose(o) in (Whose.PATH, Whose.BODY, Whose.THING)]
OF_A_THING = [o for o in OPERATIONS if o.organization_parameter and needs(o).things]
READS = [o for o in OPERATIONS if o.retry is Retry.READ]
OF_THE_INSTALLATION = [o for o in OPERATIONS if whose(o) is Whose.INSTALLATION]
WRITES = [o for o in OPERATIONS if o.retry is not Retry.READ and o not in OF_THE_INSTALLATION]


# Each set of scopes that keys commonly have, by its name.
SETS = ("usage", "purchases", "grants", "billing", "read", "write", "admin")
# What a scope lets a key ask for, where the body decides which scope is needed.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("createCreditTransaction", "grants"): {"amount": 4},
}


def scopes(operation: Operation, *, cover: bool) -> list[str]:
    """Return the scopes that let a key in to an operation, or those that do not."""
    return [scope for scope in SETS if lets_in(operation, parse_scopes([scope])) is cover]


def lets_in(operation: Operation, found: frozenset[Scope]) -> bool:
    """Whether scopes are enough for an operation: said once more, apart from the code."""
    own = found | ({*Scope} if Scope.ADMIN in found else set())
    return bool(own & {operation.scope, *operation.or_scopes}) and own >= {*operation.and_scopes}


async def revoked(world: World) -> str:
    """Return a key that was revoked before anybody used it."""
    async with world.pool.acquire() as connection:
        made = await access.create_key(
            connection, name="old", scope="admin", organization_id=world.a.organization.id
        )
        await access.revoke_key(connection, UUID(made["id"]))
    return made["key"]


async def expired(world: World) -> str:
    """Return a key that has expired."""
    async with world.pool.acquire() as connection:
        made = await access.create_key(
            connection, name="expired", scope="admin", organization_id=None,
            expires_at=datetime.now(UTC) - timedelta(seconds=1),
        )  # fmt: skip
    return made["key"]


async def expired_session(world: World) -> str:
    """Return the token of a session that has expired."""
    token = (await session(world, world.a)).key
    await world.pool.execute("UPDATE api_sessions SET expires_at = now()")
    assert token is not None
    return token


@asynccontextmanager
async def nothing_changes(world: World) -> AsyncIterator[None]:
    """Fail where a row of any table is another one afterwards, or is new, or is gone."""
    before = await world.everything()
    yield
    after = await world.everything()
    assert [table for table in before if before[table] != after[table]] == []


def same(answers: Iterable[tuple[Request, Answer]]) -> bool:
    """Whether answers are the same but for what each request said itself."""
    seen = set()
    for request, answer in answers:
        text = answer.body.decode()
        for said in request.said:
            text = text.replace(said, "…")
        seen.add((answer.status, text, *sorted(set(answer.headers) - {"Date"})))
    return len(seen) == 1


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
async def test_who_has_no_valid_key_or_too_few_scopes_is_told_nothing_whether_or_not_it_exists(
    world: World, operation: Operation
) -> None:
    requests = [
        await world.request(operation, world.a),
        await world.request(operation, world.a, named=str(world.a.organization.id)),
        await world.missing(operation),
    ]
    garbage = ["x", "ppk_short", "ppk_" + secrets.token_urlsafe(32), await revoked(world)]
    garbage += [await expired(world), await expired_session(world)]
    strangers = [world.client.with_key(key) for key in (None, *garbage)]
    keys = [
        await bound(world, tenant, scope)
        for scope in scopes(operation, cover=False)
        for tenant in (world.a, world.b)
    ]
    if not lets_in(operation, SESSION_SCOPES):
        keys += [await session(world, tenant) for tenant in (world.a, world.b)]
    expected = [
        *((client, AuthenticationError) for client in strangers),
        *((client, PermissionDeniedError) for client in keys),
    ]
    async with nothing_changes(world):
        for client, refused in expected:
            asked = [(request, await send(client, request)) for request in requests]
            assert same(asked)
            for request, answer in asked:
                check_refused(answer, refused)
                assert world.a.disclosed_by(answer, request) == []


@pytest.mark.parametrize("operation", OF_AN_ORGANIZATION, ids=name)
async def test_another_organizations_thing_is_404_in_the_words_of_one_that_does_not_exist(
    world: World, operation: Operation
) -> None:
    requests = [
        await world.request(operation, world.a),
        await world.request(operation, world.a, named=str(world.a.organization.id)),
        await world.missing(operation),
    ]
    keys = [await bound(world, world.b, scope) for scope in scopes(operation, cover=True)]
    if lets_in(operation, SESSION_SCOPES):
        keys.append(await session(world, world.b))
    async with nothing_changes(world):
        for client, headers in itertools.product(keys, ({}, {"idempotency_key": "k"})):
            asked = [(r, await send(client, r, **headers)) for r in requests]
            assert same(asked)
            for request, answer in asked:
                check_refused(answer, NotFoundError)
                assert world.a.disclosed_by(answer, request) == []


@pytest.mark.parametrize("operation", OF_A_THING, ids=name)
async def test_another_organizations_thing_is_not_found_below_ones_own_path(
    world: World, operation: Operation
) -> None:
    theirs = await world.request(operation, world.a)
    own_path = theirs.path.replace(world.a.slug, world.b.slug)
    request = replace(theirs, path=own_path)
    missing = {parameter: str(uuid4()) for parameter in needs(operation).things}
    no_such = await world.request(operation, world.b, things=missing)
    keys = [await bound(world, world.b, Scope.ADMIN), world.client]
    async with nothing_changes(world):
        for client in keys:
            asked = [(r, await send(client, r)) for r in (request, no_such)]
            assert same(asked)
            for asked_for, answer in asked:
                check_refused(answer, NotFoundError)
                assert world.a.disclosed_by(answer, asked_for) == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
async def test_a_scope_that_is_large_enough_is_let_in_by_its_own_organization(
    world: World, operation: Operation
) -> None:
    refused = operation in OF_THE_INSTALLATION
    own: list[tuple[ApiClient, dict[str, Any]]] = []
    if lets_in(operation, SESSION_SCOPES):
        own.append((await session(world, world.a), {}))
    for scope in scopes(operation, cover=True):
        body = BODIES.get((operation.name, scope), {})
        every = await world.client.make_key(scope)
        answer = await send(every, await world.request(operation, world.a, **body))
        assert answer.status == operation.status, answer.body
        own.append((await bound(world, world.a, scope), body))
    for client, body in own:
        request = await world.request(operation, world.a, **body)
        answer = await send(client, request)
        if refused:
            check_refused(answer, PermissionDeniedError)
        else:
            assert answer.status == operation.status, answer.body
        assert world.b.disclosed_by(answer, request) == []


@pytest.mark.parametrize("operation", OF_THE_INSTALLATION, ids=name)
async def test_what_is_of_the_whole_installation_is_403_for_a_key_of_one_organization(
    world: World, operation: Operation
) -> None:
    requests = [await world.request(operation, world.a), await world.missing(operation)]
    keys = [await bound(world, tenant, Scope.ADMIN) for tenant in (world.a, world.b)]
    async with nothing_changes(world):
        for client in keys:
            asked = [(request, await send(client, request)) for request in requests]
            assert same(asked)
            for request, answer in asked:
                check_refused(answer, PermissionDeniedError)
                assert world.a.disclosed_by(answer, request) == []


@pytest.mark.parametrize("operation", READS, ids=name)
async def test_a_list_shows_a_key_its_own_organization_alone_whatever_it_is_asked(
    world: World, operation: Operation
) -> None:
    client = await bound(world, world.b, Scope.ADMIN)
    own = await world.request(operation, world.b)
    for query in ({}, *queries(world, operation, await cursor_of_another(world, operation))):
        request = replace(own, query={**own.query, **query})
        answer = await send(client, request)
        assert answer.status in (200, 403, 404, 422), answer.body
        assert world.a.disclosed_by(answer, request) == [], query


@pytest.mark.parametrize("operation", WRITES, ids=name)
async def test_the_same_idempotency_key_of_another_organization_is_another_key(
    world: World, operation: Operation
) -> None:
    theirs = await bound(world, world.a, Scope.ADMIN)
    first = await send(theirs, await world.request(operation, world.a), idempotency_key="k")
    assert first.status == operation.status
    await world.learn(world.a)
    before = await world.rows_of(world.a)
    own = await bound(world, world.b, Scope.ADMIN)
    request = await world.request(operation, world.b)
    answer = await send(own, request, idempotency_key="k")
    assert (answer.status, "Idempotent-Replayed" in answer.headers) == (operation.status, False)
    assert world.a.disclosed_by(answer, request) == []
    assert await world.rows_of(world.a) == before


async def test_a_transaction_id_of_another_organization_is_free(world: World) -> None:
    for tenant in (world.a, world.b):
        client = await bound(world, tenant, "write")
        asked = {"amount": 5, "transactionId": f"{world.a.word}-500", "note": tenant.word}
        answer = await client.post("/api/credit-transactions", asked)
        assert answer.status == (409 if tenant is world.a else 200)
    assert answer.json["changeSequence"] > 1


async def test_the_secrets_looked_for_can_be_disclosed(world: World) -> None:
    client = await bound(world, world.a, Scope.ADMIN)
    disclosed: set[str] = set()
    for operation in OPERATIONS:
        request = await world.request(operation, world.a)
        answer = await send(client, request)
        disclosed.update(world.a.disclosed_by(answer, Request("GET", "/")))
    word, owner = world.a.word, str(world.a.organization.id)
    customer = str(world.a.organization.stripe_customer_id).lower()
    shown = {owner, f"{word} laboratories", f"jo@{word}.example", customer, f"pi_{word}"}
    assert shown - disclosed == set()
    assert all(
        any(word in text for text in tenant.secrets)
        for tenant, word in ((world.a, "quokka"), (world.b, "wombat"))
    )


async def bound(world: World, tenant: Tenant, scope: str) -> ApiClient:
    """Return a client whose key is of one organization."""
    return await world.client.make_key(scope, tenant.organization)


async def session(world: World, tenant: Tenant) -> ApiClient:
    """Return a client with the token of an organization's browser."""
    asked = {"organizationId": tenant.slug}
    opened = await world.client.post("/v1/billing/sessions", asked)
    assert opened.status == HTTPStatus.OK, opened.body
    return world.client.with_key(opened.json["token"])


def queries(world: World, operation: Operation, cursor: str | None) -> list[dict[str, str]]:
    """Return queries that ask for the first organization's things in every parameter."""
    if operation.query is None:
        return []
    owner = world.a.organization
    customer = str(owner.stripe_customer_id)
    asked = [owner.slug, str(owner.id), owner.name, f"{world.a.word}-user", customer]
    fields = operation.query.__struct_encode_fields__  # type: ignore[attr-defined]
    found = [{field: value} for field in fields for value in asked]
    return found + ([{"cursor": cursor}] if cursor else [])


async def cursor_of_another(world: World, operation: Operation) -> str | None:
    """Return the cursor of the first organization's second page, where there are pages."""
    if operation.query is None or "limit" not in operation.query.__struct_fields__:  # type: ignore[attr-defined]
        return None
    for _ in range(2):
        for thing in ("hold", "grant", "transaction"):
            await world.make(thing, world.a)
    request = await world.request(operation, world.a)
    page = await send(world.client, replace(request, query={**request.query, "limit": "1"}))
    assert page.status == HTTPStatus.OK
    return None if isinstance(page.json, list) else page.json.get("nextCursor")
