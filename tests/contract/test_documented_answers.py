"""Every answer that the document has can be had, in the one envelope; it claims no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest import mock
from urllib.parse import urlsplit

import msgspec
import pytest

from api.endpoints import OPERATIONS
from api.framework import edge, openapi
from api.framework.operation import Call, Operation, Reply
from shared import errors
from shared.access.model import Scope
from shared.db.pool import create_pool
from shared.errors import PrepaidError
from shared.http import body as http_body
from tests.fixtures.api import ApiClient, check_documented, document, serve_api
from tests.fixtures.operation_requests import check_refused, filled, send
from tests.fixtures.operation_tenants import World
from tests.fixtures.operation_things import THINGS
from tests.fixtures.operations import NEEDS, TABLE, Whose, name, needs, whose
from tests.fixtures.product import Answer, closed_port, send_raw

if TYPE_CHECKING:
    from shared.config import Settings
    from shared.db.pool import Pool

Provoke = Callable[[World, Operation], Awaitable[Answer]]
JSON = "application/json"


# How each error can be had of any operation


async def two_versions(world: World, operation: Operation) -> Answer:
    request = await world.request(operation, world.a)
    twice = [(edge.VERSION_HEADER, edge.API_VERSION)] * 2
    return await send(world.client, replace(request, headers=twice))


async def no_key(world: World, operation: Operation) -> Answer:
    return await send(world.client.with_key(None), await world.request(operation, world.a))


async def too_small_a_scope(world: World, operation: Operation) -> Answer:
    other = Scope.PURCHASES if operation.scope is Scope.READ else Scope.READ
    client = await world.client.make_key(other)
    return await send(client, await world.request(operation, world.a))


async def nothing_there(world: World, operation: Operation) -> Answer:
    return await send(world.client, await world.missing(operation))


async def body_that_does_not_arrive(world: World, operation: Operation) -> Answer:
    with mock.patch.object(http_body, "BODY_SECONDS_MAX", 0.05):
        return await half_a_request(world, operation, content_length=1000)


async def body_that_is_too_large(world: World, operation: Operation) -> Answer:
    return await half_a_request(world, operation, content_length=http_body.BODY_BYTES_MAX + 1)


async def half_a_request(world: World, operation: Operation, *, content_length: int) -> Answer:
    """Announce a body and send its first byte alone."""
    request = await world.request(operation, world.a)
    headers = (
        f"Authorization: Bearer {world.client.key}\r\nContent-Type: {JSON}\r\n"
        f"Content-Length: {content_length}\r\n"
    )
    port = urlsplit(world.client.url).port
    assert port is not None
    head = f"{request.method} {request.path} HTTP/1.1"
    answer = await send_raw(port, head, b"{", headers=headers.encode())
    check_documented(request.method, request.path, answer)
    return answer


async def text_as_a_body(world: World, operation: Operation) -> Answer:
    request = await world.request(operation, world.a)
    return await send(world.client, request, content_type="text/plain")


async def under_way(world: World, operation: Operation) -> Answer:
    """Ask again while the first request with the same key has no answer yet."""
    request = await world.request(operation, world.a)
    await send(world.client, request, idempotency_key="k1")
    await world.pool.execute(
        "UPDATE idempotent_requests SET status = NULL, answer = NULL,"
        " locked_until = now() + interval '1 minute' WHERE key = 'k1'"
    )
    answer = await send(world.client, request, idempotency_key="k1")
    assert answer.headers["Retry-After"] == "1"
    return answer


async def another_request(world: World, operation: Operation) -> Answer:
    """Send another request with the same key."""
    request = await world.request(operation, world.a)
    if operation.body is None and not needs(operation).things:  # another operation's it is, then
        hold = await world.client.call(
            "POST",
            f"/v1/billing/{world.a.slug}/holds",
            {"amount": 1},
            headers={"Idempotency-Key": "k2"},
        )
        assert hold.status == 200, hold.body
        return await send(world.client, request, idempotency_key="k2")
    other = await world.request(operation, world.a)
    if another := needs(operation).another:
        other = replace(request, body={**request.body, **another})
    first = await send(world.client, request, idempotency_key="k2")
    assert first.status == operation.status, first.body
    return await send(world.client, other, idempotency_key="k2")


async def unknown_parameter(world: World, operation: Operation) -> Answer:
    request = await world.request(operation, world.a)
    answer = await send(world.client, replace(request, query={**request.query, "colour": "red"}))
    assert answer.json["errors"][0]["loc"] == ["query", "colour"]
    return answer


async def old_version(world: World, operation: Operation) -> Answer:
    request = await world.request(operation, world.a)
    return await send(world.client, request, prepaid_version="2020-01-01")


async def too_many_requests(world: World, operation: Operation) -> Answer:
    request = await world.request(operation, world.a)
    async with served(world, replace(world.settings, requests_per_minute=1)) as client:
        await send(client, request)
        answer = await send(client, request)
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    return answer


async def broken_handler(world: World, operation: Operation) -> Answer:
    async def broken(_call: Call) -> Reply:
        raise RuntimeError("SELECT 1 FROM broken; /site-packages/api/broken.py")

    request = await world.request(operation, world.a)
    async with served(world, world.settings, replace(operation, handle=broken)) as client:
        return await send(client, request)


async def handler_that_does_not_end(world: World, operation: Operation) -> Answer:
    async def endless(_call: Call) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    request = await world.request(operation, world.a)
    slow = replace(operation, handle=endless, seconds_max=0.05)
    async with served(world, world.settings, slow) as client:
        with mock.patch.object(client.api.deadlines, "_tick_seconds", 0.02):
            return await send(client, request)


async def no_database(world: World, operation: Operation) -> Answer:
    request = await world.request(operation, world.a)
    away = f"postgresql://prepaid@127.0.0.1:{closed_port()}/prepaid"
    async with (
        create_pool(away, size=2, application_name="tests") as pool,
        served(world, world.settings, pool=pool) as client,
    ):
        answer = await send(client, request)
    assert int(answer.headers["Retry-After"]) > 0
    return answer


async def no_stripe(world: World, operation: Operation) -> Answer:
    request = await world.request(operation, world.a)
    away = f"http://127.0.0.1:{closed_port()}"
    async with served(world, replace(world.settings, stripe_api_base=away)) as client:
        return await send(client, request)


@asynccontextmanager
async def served(
    world: World, settings: Settings, *operations: Operation, pool: Pool | None = None
) -> AsyncIterator[ApiClient]:
    """Serve the API once more, on the same rows, with other settings or other operations."""
    async with serve_api(
        settings, pool or world.pool, world.client.session, operations or OPERATIONS
    ) as bare:
        yield bare.with_key(world.client.key)


WAYS: Mapping[type[PrepaidError], Provoke] = {
    errors.InvalidRequestError: two_versions,
    errors.AuthenticationError: no_key,
    errors.PermissionDeniedError: too_small_a_scope,
    errors.NotFoundError: nothing_there,
    errors.RequestTimeoutError: body_that_does_not_arrive,
    errors.PayloadTooLargeError: body_that_is_too_large,
    errors.UnsupportedMediaTypeError: text_as_a_body,
    errors.ConflictError: under_way,
    errors.IdempotencyError: another_request,
    errors.ValidationError: unknown_parameter,
    errors.UpgradeRequiredError: old_version,
    errors.RateLimitError: too_many_requests,
    PrepaidError: broken_handler,
    errors.StripeFailedError: no_stripe,
    errors.UnavailableError: no_database,
    errors.DeadlineError: handler_that_does_not_end,
}


def way(operation: Operation, kind: type[PrepaidError]) -> Provoke | None:
    """Return how an operation can be had to answer with an error: its own way, or everybody's."""
    own = needs(operation).refused.get(kind)
    if own is None and kind is errors.ConflictError and operation.keyed_by is not None:
        return None  # nothing is stored of its requests: no other can be seen under way
    return own or WAYS.get(kind)


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
async def test_every_refusal_of_the_document_can_be_had(
    world: World, operation: Operation, subtests: pytest.Subtests
) -> None:
    for kind in sorted(openapi.possible_errors(operation), key=lambda kind: kind.__name__):
        with subtests.test(kind.__name__):
            provoke = way(operation, kind)
            assert provoke is not None, f"{operation.name}: nothing provokes its {kind.__name__}"
            check_refused(await provoke(world, operation), kind)


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
async def test_success_is_answered_as_it_is_documented(world: World, operation: Operation) -> None:
    request = await world.request(operation, world.a)
    answer = await send(world.client, request)  # which holds it against the document
    assert answer.status == operation.status
    assert answer.headers["Content-Type"].partition(";")[0] == operation.media[0]


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
def test_the_document_has_no_other_answers(operation: Operation) -> None:
    documented = document()["paths"][operation.path][operation.method.lower()]["responses"]
    possible = {kind.status for kind in openapi.possible_errors(operation)} | {operation.status}
    assert set(documented) == {str(int(status)) for status in possible}


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
def test_an_operation_is_covered_by_the_table_of_what_operations_need(
    operation: Operation,
) -> None:
    needed = NEEDS.get(operation.name)
    assert needed is not None, f"{operation.name}: say in {TABLE} what its requests need"
    parameters = set(openapi.PARAMETER.findall(operation.path)) - {operation.organization_parameter}
    assert {*needed.things, *needed.words} == parameters, (
        f"{operation.name}: `things` or `words` in {TABLE} says what each parameter of its path is"
    )
    assert set(needed.things.values()) <= set(THINGS)
    assert (whose(operation) is Whose.PATH) == (operation.organization_parameter is not None), (
        f"{operation.name}: `whose` in {TABLE} says how its requests name an organization"
    )
    if operation.body is not None:
        words = {"{organization}": "acme", "{unique}": "x"}
        asked = filled({**operation.example, **needed.body}, words)
        for body in (asked, {**asked, **needed.another}):
            msgspec.json.decode(msgspec.json.encode(body), type=operation.body)
    for kind in openapi.possible_errors(operation):
        assert way(operation, kind) is not None, (
            f"{operation.name}: `refused` in {TABLE} says how to have its {kind.__name__}"
        )


def test_the_table_has_no_operation_that_there_is_not() -> None:
    assert set(NEEDS) - {operation.name for operation in OPERATIONS} == set()


def test_what_a_client_is_generated_from_names_the_items_of_a_batch_and_a_refused_attempt() -> None:
    schemas = document()["components"]["schemas"]
    items = schemas["BatchRequest"]["properties"]["transactions"]["items"]
    assert items == {"$ref": "#/components/schemas/TransactionRequest"}
    refused = schemas["ErrorResponse"]
    assert refused["properties"]["attempt"] == {"$ref": "#/components/schemas/AttemptResponse"}
    assert set(refused["required"]) == {"code", "type", "detail"}
