"""Whatever a body holds is answered in the envelope, by the name of the field; never a 5xx."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from api.endpoints import OPERATIONS
from api.framework import edge
from api.framework.operation import Operation
from shared.errors import InvalidRequestError, ValidationError
from shared.http.body import BODY_BYTES_MAX
from shared.ledger.rules import METADATA_LEVELS_MAX
from tests.fixtures.operation_requests import check_refused, send
from tests.fixtures.operation_tenants import World
from tests.fixtures.operations import name, needs
from tests.fixtures.probes import JSON, TEXTS, WITH_A_BODY, Field, check_answer, fields, with_field
from tests.fixtures.product import Answer

# JSON as it is sent, so that escapes and digits are the test's own.
ANY_TYPE = ["null", "true", "1", "-1", "1.5", '"x"', "[]", "{}", "[[]]", "[null]", '[{"a":1}]']
NUMBERS = [
    "0", "-0", "-0.0", "0.1234567891", "1e400", "-1e400", "1e-400", "1e99", "-1e-99", "1E5",
    "1" + "0" * 30, "-" + "9" * 30, "9" * 400, "0." + "1" * 400, "2147483648",
    "9223372036854775807", "9223372036854775808", "18446744073709551616", "1e18", "1e-9",
]  # fmt: skip
NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "01", "+1", ".5", "1.", "0x10", "1_000", "-", "1e"]
ESCAPES = [
    r'"\u0000"', r'"a\u0000b"', r'"\ud800"', r'"\udc00"', r'"\ud800x"', r'"\udc00\ud800"',
    r'"\ud83d\ude00"', r'"\ud83d\ud83d"', r'"\uD800\u0000"', r'"\x"', r'"\u12"',
]  # fmt: skip
FIELD_PROBES = [*ANY_TYPE, *NUMBERS, *NO_NUMBERS, *ESCAPES, *map(json.dumps, TEXTS)]
# Fields that an answer repeats as they came.
REPEATED = frozenset({"note", "user", "userId", "category", "name", "description", "email"})
# Fields that an answer repeats digit by digit.
EXACT = ("amount", "capturedAmount", "quantity")
UNKNOWN = Field(("colour",), Draft202012Validator(schema=False))


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


def check_repeated(answer: Answer, field: Field, raw: str, value: Any, told: str) -> None:
    """Fail where an answer has another value than the request, in a field of the same name."""
    if field.location[-1] in REPEATED:
        assert answer.json.get(field.location[-1], value) == value, told
    if field.location[-1] in EXACT:
        shown = json.loads(answer.body, parse_float=Decimal, parse_int=Decimal)
        sent = None if raw == "null" else Decimal(raw)
        repeated = [shown[name] for name in EXACT if name in shown]
        assert sent in repeated or not repeated, told


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
        if answer.status == operation.status and operation.name != "captureHold":
            check_repeated(answer, field, raw, value, told)  # a capture answers with its hold
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
        header: dict[str, str] = {edge.IDEMPOTENCY_HEADER: f"k-{levels}"}
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
