"""Whatever a query or a path says is answered in the envelope; never a 5xx."""

from __future__ import annotations

import itertools
import typing
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from urllib.parse import quote

import msgspec
import pytest
from msgspec.inspect import IntType

from api.endpoints import OPERATIONS
from api.framework import cursors
from api.framework.operation import Operation
from shared.errors import NotFoundError, ValidationError
from tests.fixtures.operation_prices import a_price_book_is_stored
from tests.fixtures.operation_requests import check_refused, send
from tests.fixtures.operation_tenants import World
from tests.fixtures.operations import name
from tests.fixtures.probes import (
    TEXTS,
    WITH_A_QUERY,
    WITH_AN_ID,
    WITH_PAGES,
    as_it_is,
    check_answer,
    parameters,
)

LINE_BYTES = 7_000  # that a request line surely takes
CURSORS = [
    "", "x", "nonsense", "=", "====", "%%%", "YQ", "YTpiOmM", "MTpob2xkczo", "\u0000", "a\0b",
    "\u00e9", "x" * 5000, "-1", "0", "'; DROP TABLE holds; --",
    *(
        cursors.encode(kind, position)
        for kind in ("grants", "holds", "organizations", "transactions", "usage", "x")
        for position in (-1, 0, 2**63, 2**200, "1.5", "\u0661", "'", "a:b", "")
    ),
]  # fmt: skip
LIMITS = [
    "0", "-1", "1.5", "1e9", "", " ", " 5", "+5", "1_0", "0x10", "\u0665", "NaN", "9" * 40,
    "null", "true", "10;", "'1'",
]  # fmt: skip

# Years, days without dashes, and seconds since 1970.
NUMBERS = ["2026", "20261101", "1793491200", "1793491200.5", "0", "-1", "1e9", "NaN", ""]


def moments(operation: Operation) -> list[str]:
    """Return the names of the parameters of an operation that are moments."""
    assert operation.query is not None
    hints = typing.get_type_hints(operation.query)
    return [
        field.encode_name
        for field in msgspec.structs.fields(operation.query)
        if datetime in typing.get_args(hints[field.name])
    ]


WITH_MOMENTS = [operation for operation in WITH_A_QUERY if moments(operation)]


def too_large_limits(operation: Operation) -> list[str]:
    """Return the limit that is one too large for an operation, if it has limits."""
    assert operation.query is not None
    limits = [f for f in msgspec.structs.fields(operation.query) if f.encode_name == "limit"]
    found = [msgspec.inspect.type_info(limit.type) for limit in limits]
    return [str(kind.le + 1) for kind in found if isinstance(kind, IntType) and kind.le is not None]


@pytest.mark.parametrize("operation", WITH_A_QUERY, ids=name)
async def test_every_parameter_of_a_query_takes_what_it_says_and_refuses_the_rest_by_name(
    world: World, operation: Operation
) -> None:
    request = await world.request(operation, world.a)
    limits = [*LIMITS, *too_large_limits(operation)]
    for parameter, value in itertools.product(
        parameters(operation), [*TEXTS, *CURSORS, *limits, "\0"]
    ):
        if len(quote(value)) > LINE_BYTES:
            continue
        query = {**request.query, parameter: value}
        answer = await send(world.client, replace(request, query=query))
        check_answer(operation, answer)
        if answer.status != operation.status:
            location = answer.json["errors"][0]["loc"]
            assert location[:2] == ["query", parameter], (parameter, value, answer.json)
        if "\0" in value or (parameter == "limit" and value in limits):
            assert answer.status == HTTPStatus.UNPROCESSABLE_ENTITY, (parameter, value)


@pytest.mark.parametrize("operation", WITH_MOMENTS, ids=name)
async def test_a_number_is_no_moment(world: World, operation: Operation) -> None:
    request = await world.request(operation, world.a)
    for parameter, value in itertools.product(moments(operation), NUMBERS):
        query = {**request.query, parameter: value}
        answer = await send(world.client, replace(request, query=query))
        check_refused(answer, ValidationError)
        (error,) = answer.json["errors"]
        assert error["loc"] == ["query", parameter], (value, answer.json)
        assert error["msg"] == "must be a time such as 2031-01-31T09:30:00Z", (value, answer.json)


@pytest.mark.parametrize("operation", WITH_PAGES, ids=name)
async def test_a_cursor_that_is_none_of_this_list_is_refused(
    world: World, operation: Operation
) -> None:
    request = await world.request(operation, world.a)
    for cursor in CURSORS[1:]:
        answer = await send(
            world.client, replace(request, query={**request.query, "cursor": cursor})
        )
        if answer.status == HTTPStatus.OK:
            assert answer.json["nextCursor"] is None
            continue
        check_refused(answer, ValidationError)
        assert answer.json["errors"][0]["loc"] == ["query", "cursor"]


async def test_a_cursor_of_one_list_is_none_of_another(world: World) -> None:
    found = {}
    for thing in ("hold", "grant", "transaction", "budget") * 2:
        await world.make(thing, world.a)
    await a_price_book_is_stored(world, world.a)
    for operation in WITH_PAGES:
        request = await world.request(operation, world.a)
        answer = await send(world.client, replace(request, query={**request.query, "limit": "1"}))
        found[operation.name] = (request, answer.json["nextCursor"])
    # An explanation has a second page only where a credit paid for several debits.
    assert {own for own, (_, cursor) in found.items() if cursor is None} == {"explainTransaction"}
    for (own, (request, _)), (other, (_, cursor)) in itertools.permutations(found.items(), 2):
        if cursor is None:
            continue
        answer = await send(
            world.client, replace(request, query={**request.query, "cursor": cursor})
        )
        check_refused(answer, ValidationError)
        assert answer.json["errors"][0]["loc"] == ["query", "cursor"], (own, other)


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
async def test_an_unknown_or_repeated_parameter_is_refused_by_name(
    world: World, operation: Operation
) -> None:
    request = await world.request(operation, world.a)
    before = await world.everything()
    for parameter in ("colour", "", "Limit", "limit[]", "a.b", "\u202e", "' OR 1=1", "x" * 3000):
        answer = await send(world.client, replace(request, query={**request.query, parameter: "1"}))
        check_refused(answer, ValidationError)
        assert answer.json["errors"][0]["loc"] == ["query", parameter[:100]]
        assert answer.json["errors"][0]["type"] == "extra_forbidden"
    for parameter in parameters(operation):
        query = {other: given for other, given in request.query.items() if other != parameter}
        path = f"{request.path}?{parameter}=1&{parameter}=2"
        twice = replace(request, path=path, query=query)
        answer = await send(world.client, twice)
        check_answer(operation, answer)
        for error in answer.json.get("errors", []):
            assert error["loc"][:2] == ["query", parameter]
    assert await world.everything() == before


# Paths


IDS = [
    "x", "x" * 300, "x" * 7000, "'; DROP TABLE holds; --", "' OR '1'='1", "%00", "a%00b", "%",
    "%zz", "%ff", "%ED%A0%80", "a/b", "..", ".", " ", "\u202e\u05d0", "\U0001f9fe", "*", "null",
    "-1", "0", "1e400", "{id}", "ct_", "ct_x", "ct_" + "0" * 32, "0" * 32, "f" * 33, "a\r\nX: b",
    "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
]  # fmt: skip


@pytest.mark.parametrize("operation", WITH_AN_ID, ids=name)
async def test_an_id_that_cannot_be_is_404(world: World, operation: Operation) -> None:
    request = await world.request(operation, world.a)
    parts = operation.path.split("/")
    for place, value in itertools.product([i for i, p in enumerate(parts) if "{" in p], IDS):
        path = request.path.split("/")
        path[place] = value if value.startswith("%") or "%00" in value else quote(value, safe="")
        answer = await as_it_is(world, replace(request, path="/".join(path)))
        check_refused(answer, NotFoundError)
