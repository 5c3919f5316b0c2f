"""Whatever a client sends is answered in the envelope, with what is wrong; never a 5xx."""

from __future__ import annotations

import itertools
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import pytest
from jsonschema import Draft202012Validator
from msgspec.inspect import IntType

from api.endpoints import OPERATIONS
from api.framework import cursors, edge, openapi
from api.framework.operation import Operation, Retry
from sandbox.product import WebProcess
from shared.errors import (
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
    ValidationError,
)
from shared.http.body import BODY_BYTES_MAX
from shared.ledger.rules import METADATA_LEVELS_MAX
from tests.fixtures.api import check_documented, document
from tests.fixtures.operations import Request, World, check_refused, name, needs, send
from tests.fixtures.product import Answer, send_raw


def parameters(operation: Operation) -> list[str]:
    """Return the names that an operation's query may hold."""
    documented = document()["paths"][operation.path][operation.method.lower()]["parameters"]
    return [found["name"] for found in documented if found["in"] == "query"]


WITH_A_BODY = [o for o in OPERATIONS if o.body is not None]
WITH_A_QUERY = [o for o in OPERATIONS if o.query is not None]
WITH_PAGES = [o for o in WITH_A_QUERY if "cursor" in parameters(o)]
WITH_AN_ID = [o for o in OPERATIONS if "{" in o.path]
WRITES = [o for o in OPERATIONS if o.retry is not Retry.READ]
JSON = "application/json"

# JSON as it is sent, so that escapes and digits are the test's own.
ANY_TYPE = ["null", "true", "1", "-1", "1.5", '"x"', "[]", "{}", "[[]]", "[null]", '[{"a":1}]']
NUMBERS = [
    "0", "-0", "-0.0", "0.1234567891", "1e400", "-1e400", "1e-400", "1e99", "-1e-99", "1E5",
    "1" + "0" * 30, "-" + "9" * 30, "9" * 400, "0." + "1" * 400, "2147483648",
    "9223372036854775807", "9223372036854775808", "18446744073709551616", "1e18", "1e-9",
]  # fmt: skip
NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "01", "+1", ".5", "1.", "0x10", "1_000", "-", "1e"]
TEXTS = [
    "",
    " ",
    "'; DROP TABLE organizations; --",
    "' OR '1'='1",
    '" OR 1=1 --',
    "1); select pg_sleep(10); --",
    "$1 %s %(x)s {0} {organization} \\",
    "(a+)+$ .* [a-z]{1000000} ^(?=x)",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "\u202emoc.elpmaxe\u202c",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\U0001f9fe\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "e\u0301\u200b\ufeff\u2028\u00a0",
    "\ufffe\uffff\U0010ffff",
    "a\tb\nc\rd\x1be",
    "null",
    "__proto__",
    "2026-13-45T25:61:61Z",
    "9999999999",
    "x" * 300,
    "x" * 20_000,
    "\U0001f4a9" * 5_000,
]
ESCAPES = [
    r'"\u0000"', r'"a\u0000b"', r'"\ud800"', r'"\udc00"', r'"\ud800x"', r'"\udc00\ud800"',
    r'"\ud83d\ude00"', r'"\ud83d\ud83d"', r'"\uD800\u0000"', r'"\x"', r'"\u12"',
]  # fmt: skip
FIELD_PROBES = [*ANY_TYPE, *NUMBERS, *NO_NUMBERS, *ESCAPES, *map(json.dumps, TEXTS)]
# Fields that an answer repeats as they came.
REPEATED = frozenset({"note", "user", "userId", "category", "name", "description", "email"})
# Fields that an answer repeats digit by digit.
EXACT = ("amount", "capturedAmount", "quantity")


@dataclass(frozen=True)
class Field:
    """A field of a body: where it stands, and what its document says of it."""

    location: tuple[str, ...]
    check: Draft202012Validator


UNKNOWN = Field(("colour",), Draft202012Validator(schema=False))


def fields(operation: Operation) -> list[Field]:
    """Return every field of an operation's body, those inside of others too."""
    content = document()["paths"][operation.path][operation.method.lower()]["requestBody"]
    return [*_fields(content["content"][JSON]["schema"], ())]


def _fields(schema: Any, location: tuple[str, ...]) -> Iterator[Field]:
    components = {"components": document()["components"]}
    for part in schema.get("anyOf", [schema]):
        found = part
        if "$ref" in part:
            found = document()["components"]["schemas"][part["$ref"].rpartition("/")[2]]
        for field, kind in found.get("properties", {}).items():
            at = (*location, field)
            yield Field(at, Draft202012Validator(kind | components))
            yield from _fields(kind, at)


def with_field(body: Any, location: Sequence[str], raw: str) -> bytes:
    """Return a body as JSON with one field as it is given, digit by digit."""
    mark = "\x01here"
    found = dict(body)
    inner = found
    for step in location[:-1]:
        inner[step] = dict(inner.get(step) or {})
        inner = inner[step]
    inner[location[-1]] = mark
    return json.dumps(found).replace(json.dumps(mark), raw).encode()


def parsed(raw: str) -> tuple[bool, Any]:
    """Read a probe as strict JSON: whether it is, and its value."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        value = json.loads(raw, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:  # half a surrogate pair among them
        return False, None
    return True, value


def check_answer(operation: Operation, answer: Answer) -> None:
    """Fail unless it succeeded or was refused, as documented and in the envelope."""
    if answer.status != operation.status:
        check_refused(answer, *openapi.possible_errors(operation))
        assert answer.status < 500, answer.json


@pytest.mark.parametrize("operation", WITH_A_BODY, ids=name)
async def test_every_field_takes_what_its_document_says_and_refuses_the_rest_by_name(
    world: World, operation: Operation
) -> None:
    before = await world.everything()
    for field, raw in itertools.product(fields(operation), FIELD_PROBES):
        if raw == FIELD_PROBES[0]:
            request = await world.request(operation, world.a)
        body = with_field(request.body, field.location, raw)
        answer = await send(world.client, replace(request, body=body))
        told = f"{'.'.join(field.location)} = {raw[:60]}: {answer.status} {answer.body[:300]!r}"
        check_answer(operation, answer)
        is_json, value = parsed(raw)
        if not is_json:
            refused = answer.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
            assert refused, told
        elif not field.check.is_valid(value):
            if needs(operation).results_apart and answer.status == operation.status:
                assert "invalid" in [result["status"] for result in answer.json["results"]], told
            else:
                assert answer.status == HTTPStatus.UNPROCESSABLE_ENTITY, told
        if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            location = ["body", *field.location]
            (error,) = answer.json["errors"]
            if needs(operation).fields_are_apart or error["type"] != "value_error":
                assert location in (error["loc"], error["loc"][: len(location)]), told
        if answer.status == operation.status and field.location[-1] in REPEATED:
            assert answer.json.get(field.location[-1], value) == value, told
        if answer.status == operation.status and field.location[-1] in EXACT:
            shown = json.loads(answer.body, parse_float=Decimal, parse_int=Decimal)
            sent = None if raw == "null" else Decimal(raw)
            repeated = [shown[name] for name in EXACT if name in shown]
            assert sent in repeated or not repeated, told
    after = await world.everything()
    assert all(len(after[table]) >= len(before[table]) for table in before)


async def test_a_wrong_field_inside_a_batch_is_named_with_its_place(world: World) -> None:
    (single,) = (o for o in OPERATIONS if o.name == "createCreditTransaction")
    (batch,) = (o for o in OPERATIONS if o.name == "createCreditTransactions")
    path = (await world.request(batch, world.a)).path
    for field in [f for f in fields(single) if len(f.location) == 1] + [UNKNOWN]:
        probes = [raw for raw in FIELD_PROBES if parsed(raw)[0]]
        items = [with_field({"amount": 1}, field.location, raw) for raw in probes]
        for number in range(0, len(items), 10):
            body = b'{"transactions":[%s]}' % b",".join(items[number : number + 10])
            answer = await world.client.call("POST", path, body)
            if answer.status != HTTPStatus.OK:  # a number that no reader takes spoils all of it
                check_refused(answer, ValidationError)
                continue
            for place, result in enumerate(answer.json["results"]):
                told = f"{field.location} = {probes[number + place][:60]}: {result}"
                if not field.check.is_valid(parsed(probes[number + place])[1]):
                    assert result["status"] == "invalid", told
                if result["status"] == "invalid":
                    location = ["body", "transactions", place, *field.location]
                    assert result["error"]["errors"][0]["loc"][: len(location)] == location, told


@pytest.mark.parametrize("operation", WITH_A_BODY, ids=name)
async def test_an_unknown_field_is_refused_by_name(world: World, operation: Operation) -> None:
    request = await world.request(operation, world.a)
    for field in ("colour", "__class__", "", "Amount", "a.b", "\u202e", "x" * 300):
        body = request.body | {field: 1}
        answer = await send(world.client, replace(request, body=body))
        check_refused(answer, ValidationError)
        assert answer.json["errors"][0]["loc"][0] == "body"
        assert answer.json["errors"][0]["type"] == "extra_forbidden"


@pytest.mark.parametrize("operation", WITH_A_BODY, ids=name)
async def test_a_body_that_is_no_object_is_refused(world: World, operation: Operation) -> None:
    request = await world.request(operation, world.a)
    for body in (b"null", b"[]", b"1", b'"x"', b"true", b"[{}]"):
        answer = await send(world.client, replace(request, body=body))
        check_refused(answer, ValidationError)
        assert answer.json["errors"][0]["loc"] == ["body"]
    for body in (b"{", b"}", b"{'a':1}", b'{"a"}', b"\xff", b"\xef\xbb\xbf{}", b"\0"):
        answer = await send(world.client, replace(request, body=body))
        check_refused(answer, InvalidRequestError)


@pytest.mark.parametrize("operation", WITH_A_BODY, ids=name)
async def test_a_body_however_deep_is_answered(world: World, operation: Operation) -> None:
    request = await world.request(operation, world.a)
    for depth in (10, 500, *range(900, 1010, 10), 10_000, 400_000):
        for opened, closed in (("[", "]"), ('{"a":', "}")):
            nested = (opened * depth + "1" + closed * depth)[: BODY_BYTES_MAX // 2]
            for body in (
                nested.encode(),
                with_field(request.body, ("colour",), nested),
                with_field(request.body, ("metadata",), f'{{"a":{nested}}}'),
            ):
                answer = await send(world.client, replace(request, body=body))
                check_answer(operation, answer)


async def test_metadata_is_taken_up_to_a_depth_and_whatever_was_taken_can_be_read(
    world: World,
) -> None:
    transactions, owner = "/api/credit-transactions", f"/v1/billing/{world.a.slug}"
    grants, batch = f"{owner}/grants", f"{owner}/transactions/batch"
    for levels in (2, 31, 32, 33, 100, *range(900, 1010, 3), 10_000):
        # Metadata itself is the first level.
        metadata = f'{{"a":{"[" * (levels - 1)}{"]" * (levels - 1)}}}'
        body = with_field({"organizationId": world.a.slug, "amount": 1}, ("metadata",), metadata)
        grant = with_field({"amount": 1, "transactionId": f"g-{levels}"}, ("metadata",), metadata)
        header = {edge.IDEMPOTENCY_HEADER: f"k-{levels}"}
        for answer in (
            await unchecked(world, "POST", transactions, body),
            await unchecked(world, "POST", grants, grant, header),
        ):
            if levels <= METADATA_LEVELS_MAX:
                assert answer.status == HTTPStatus.OK, answer.body
                continue
            check_refused(answer, ValidationError, InvalidRequestError)
            for error in answer.json.get("errors", []):
                assert error["loc"] == ["body", "metadata"]
        item = body.replace(b'"organizationId": "%s", ' % world.a.slug.encode(), b"")
        posted = await unchecked(world, "POST", batch, b'{"transactions":[%s]}' % item)
        taken = posted.status == HTTPStatus.OK and b'"posted"' in posted.body
        assert taken == (levels <= METADATA_LEVELS_MAX), posted.body
    for path in (f"{owner}/credits/history", "/api/credit-transactions/list/"):
        assert (await unchecked(world, "GET", path)).status == HTTPStatus.OK


async def unchecked(
    world: World,
    method: str,
    path: str,
    body: bytes | None = None,
    more: Mapping[str, str] | None = None,
) -> Answer:
    """Send a request whose answer may be deeper than Python's own reader of JSON takes."""
    headers = {"Authorization": f"Bearer {world.client.key}", "Content-Type": JSON, **(more or {})}
    url = world.client.url + path
    async with world.client.session.request(method, url, data=body, headers=headers) as response:
        return Answer(response.status, response.headers, await response.read())


@pytest.mark.parametrize("operation", WITH_A_BODY, ids=name)
async def test_a_name_that_stands_twice_breaks_nothing(world: World, operation: Operation) -> None:
    request = await world.request(operation, world.a)
    sent = json.dumps(request.body)
    for first in (sent[:-1], '{"colour": 1', '{"amount": "x"'):
        body = f"{first}, {sent[1:]}".encode()
        check_answer(operation, await send(world.client, replace(request, body=body)))


# Queries


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
    for thing in ("hold", "grant", "transaction") * 2:
        await world.make(thing, world.a)
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


async def as_it_is(world: World, request: Request, headers: str = "", body: bytes = b"") -> Answer:
    """Send a request with its path and headers exactly as they are."""
    if request.body is not None and not body:
        body = json.dumps(request.body).encode()
    lines = f"Authorization: Bearer {world.client.key}\r\n" if "uthorization" not in headers else ""
    if "ontent-" not in headers and body:
        lines += f"Content-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
    port = urlsplit(world.client.url).port
    assert port is not None
    answer = await send_raw(
        port,
        f"{request.method} {request.path} HTTP/1.1",
        body,
        headers=(lines + headers).encode("latin-1"),
    )
    check_documented(request.method, request.path.partition("?")[0], answer)
    return answer


# Headers


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
async def test_keys_that_contradict_each_other_are_401(world: World, operation: Operation) -> None:
    request = await world.request(operation, world.a)
    key, other = world.client.key, (await world.client.make_key()).key
    bearer = "Authorization: Bearer {}\r\n".format
    for headers in (
        bearer(key) + bearer(other),
        bearer(key) + f"x-api-key: {other}\r\n",
        bearer(key) + "Authorization: Basic eDp5\r\n",
        f"x-api-key: {key}\r\nx-api-key: {other}\r\nX-Authorization: x\r\n",
        "Authorization: Basic eDp5\r\n",
        "Authorization: \r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer  \r\n",
        f"Authorization: {key}\r\n",
        bearer(f"{key} {key}"),
        bearer(f"{key},{key}"),
        bearer("ppk_\u00e9" + "x" * 40),
        bearer("ppk_" + "x" * 5000),
        bearer("' OR '1'='1"),
    ):
        check_refused(await as_it_is(world, request, headers), AuthenticationError)


async def test_the_same_key_twice_is_that_key(world: World) -> None:
    request = Request("GET", "/v1/organizations")
    key = world.client.key
    twice = f"Authorization: Bearer {key}\r\nauthorization: bearer {key}\r\nx-api-key: {key}\r\n"
    assert (await as_it_is(world, request, twice)).status == HTTPStatus.OK


@pytest.mark.parametrize("operation", WRITES, ids=name)
async def test_an_idempotency_key_that_is_none_is_400(world: World, operation: Operation) -> None:
    request = await world.request(operation, world.a)
    before = await world.everything()
    for values in (["a", "b"], ["a", "a"], ["x" * 201], [""], ["\u00e9"], ["a\tb"], ["\x80"]):
        headers = "".join(f"{edge.IDEMPOTENCY_HEADER}: {value}\r\n" for value in values)
        check_refused(await as_it_is(world, request, headers), InvalidRequestError)
    assert await world.everything() == before


@pytest.mark.parametrize("operation", WITH_A_BODY, ids=name)
async def test_a_body_in_another_type_charset_or_encoding_is_415(
    world: World, operation: Operation
) -> None:
    request = await world.request(operation, world.a)
    before = await world.everything()
    body = json.dumps(request.body).encode()
    length = f"Content-Length: {len(body)}\r\n"
    for value in (
        "text/plain", "text/json", "application/x-www-form-urlencoded", "application/jsonx",
        "multipart/form-data; boundary=x", "application/json, text/html", "json", ";", "",
        "application/json; charset=utf-16", "application/json;charset=latin-1",
        'application/json; charset="us-ascii"',
    ):  # fmt: skip
        answer = await as_it_is(world, request, f"Content-Type: {value}\r\n{length}", body)
        check_refused(answer, UnsupportedMediaTypeError)
    json_type = f"Content-Type: {JSON}\r\n"
    for headers in (
        "Content-Type: text/plain\r\nContent-Type: application/json\r\n",
        "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        f"{json_type}Content-Encoding: gzip\r\n",
        f"{json_type}Content-Encoding: deflate\r\n",
        f"{json_type}Content-Encoding: identity\r\nContent-Encoding: x\r\n",
        f"{json_type}Content-Encoding: x-unknown\r\n",
    ):
        answer = await as_it_is(world, request, headers + length, body)
        check_refused(answer, UnsupportedMediaTypeError, InvalidRequestError)
    assert await world.everything() == before


@pytest.mark.parametrize("operation", WITH_A_BODY, ids=name)
async def test_json_in_utf_8_may_say_so(world: World, operation: Operation) -> None:
    for value in ("application/json; charset=UTF-8", 'Application/JSON;charset="utf-8"', JSON):
        request = await world.request(operation, world.a)
        body = json.dumps(request.body).encode()
        headers = f"Content-Type: {value}\r\nContent-Length: {len(body)}\r\n"
        assert (await as_it_is(world, request, headers, body)).status == operation.status


# Sizes


@pytest.mark.parametrize("operation", WITH_A_BODY, ids=name)
async def test_a_body_in_chunks_over_the_limit_is_413(world: World, operation: Operation) -> None:
    request = await world.request(operation, world.a)
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    body = chunk * (BODY_BYTES_MAX // 0x10000 + 1)
    headers = f"Content-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n"
    check_refused(await as_it_is(world, request, headers, body), PayloadTooLargeError)


@pytest.mark.parametrize("operation", WITH_A_BODY, ids=name)
async def test_a_chunk_that_is_none_after_one_that_is_is_400(
    world: World, operation: Operation
) -> None:
    request = await world.request(operation, world.a)
    headers = f"Content-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n"
    answer = await as_it_is(world, request, headers, b"2\r\n{}\r\nzz")
    check_refused(answer, InvalidRequestError)


async def test_a_body_that_grows_when_it_is_unpacked_takes_neither_memory_nor_time(
    web: WebProcess,
) -> None:
    body = bomb()
    port = urlsplit(web.url).port
    assert port is not None
    assert (await send_raw(port, "GET /healthz HTTP/1.1")).status == HTTPStatus.OK
    memory, seconds = memory_peak(web), processor_seconds(web)
    for path, encoding in itertools.product(BOMBED, ("gzip", "deflate")):
        for framing in (f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"):
            sent = body if "Length" in framing else b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            headers = f"Content-Encoding: {encoding}\r\n{framing}\r\n".encode()
            answer = await send_raw(port, f"POST {path} HTTP/1.1", sent, headers=headers)
            check_refused(answer, AuthenticationError, UnsupportedMediaTypeError)
    # A request behind all of them: by then each has been read to its end.
    assert (await send_raw(port, "GET /healthz HTTP/1.1")).status == HTTPStatus.OK
    assert memory_peak(web) - memory < 16 * BODY_BYTES_MAX
    assert processor_seconds(web) - seconds < 1


BOMBED = ("/v1/organizations", "/v1/billing/acme/holds", "/v1/webhooks/stripe")


def bomb() -> bytes:
    """Return less than a megabyte of gzip that unpacks to 900: a million blanks, over and over."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    blanks = b" " * 10**6
    head = packer.compress(blanks) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(blanks) + packer.flush(zlib.Z_FULL_FLUSH)
    found = head + block * 900
    assert len(found) < BODY_BYTES_MAX
    return found


def processor_seconds(process: WebProcess) -> float:
    """Return how long a process has been at work."""
    found = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    user, system = found.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def memory_peak(process: WebProcess) -> int:
    """Return the most bytes that a process has ever had in memory."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024
