"""R1: no request costs more than its length, and none is answered or logged at greater length."""

from __future__ import annotations

import io
import itertools
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import quote

import pytest
import structlog

from api.endpoints import OPERATIONS
from api.framework.operation import Operation
from shared.config import LogFormat
from shared.http import middleware
from shared.http.refusal_log import RefusalLog
from shared.logging import configure
from tests.fixtures.logs import log_plainly
from tests.fixtures.operation_requests import Request, send
from tests.fixtures.operation_tenants import World
from tests.fixtures.probes import WITH_A_BODY, fields, parameters, with_field
from tests.fixtures.product import Endpoint

# Four times as long may take four times the processor's time. A quadratic step takes sixteen times.
LONGER = 4
TIMES_LONGER_MAX = 6
REPEATS = 2_000
LINE_REPEATS = 200  # what a request line or a header takes, four times
RESPONSE_BYTES_MAX = 16_000
LOG_LINE_BYTES_MAX = 16_000
HEADERS = (
    "Authorization", "x-api-key", "Idempotency-Key", "Prepaid-Version", "X-Request-Id",
    "Content-Type", "Stripe-Signature",
)  # fmt: skip


def text(repeats: int) -> str:
    """Return what the expressions of loggers, parsers and filters take longest for, a line each."""
    return "\n".join([
        "://" + "a:" * repeats,
        "://a:" * repeats,
        " - at `$" * repeats + "\n",
        "unknown field `" * repeats,
        "[" * repeats,
        "\\" * repeats,
        "\\u0000" * (repeats // 2),
        "1" * repeats,
        "4242 " * repeats,
        "v1=" + "0" * repeats,
        "_secret_" * repeats,
        "sk_live_" * repeats,
        "\U0001f4a9\u202e" * repeats,
        "%_" * repeats,
        "@" * repeats,
        "-" * repeats,
        "T1H" * repeats,
    ])  # fmt: skip


def raw_values(repeats: int) -> list[str]:
    """Return the texts, and numbers and nesting, as JSON."""
    return [
        json.dumps(text(repeats)),
        "1" * repeats * 10,
        "0." + "1" * repeats * 10,
        "1e" + "9" * repeats * 10,
        "[" * repeats * 10 + "]" * repeats * 10,
        '{"a":' * repeats * 2 + "1" + "}" * repeats * 2,
    ]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Log as a process does, into a text: a line for each refused request, however many."""
    monkeypatch.setattr(middleware, "_refusals", RefusalLog(lines_per_second_max=sys.maxsize))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure(LogFormat.JSON, "INFO", stream)
    structlog.configure(cache_logger_on_first_use=False)  # each test has a stream of its own
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    log_plainly()


async def cost(world: World, requests: Sequence[Request], lines: io.StringIO) -> float:
    """Send requests; return the processor's time, once every answer and log line is bounded."""
    lines.seek(0)
    lines.truncate()
    refused = 0
    started = time.process_time()
    for request in requests:
        answer = await send(world.client, request)
        assert answer.status < HTTPStatus.INTERNAL_SERVER_ERROR, answer.body[:1000]
        if answer.status >= HTTPStatus.BAD_REQUEST:
            refused += 1
            assert len(answer.body) <= RESPONSE_BYTES_MAX
    spent = time.process_time() - started
    logged = lines.getvalue().splitlines()
    assert len(logged) >= refused
    assert max(len(line.encode()) for line in logged) <= LOG_LINE_BYTES_MAX
    return spent


async def test_r1_no_delivery_costs_more_than_its_length(
    endpoint: Endpoint, lines: io.StringIO
) -> None:
    spent = []
    for repeats in (REPEATS, REPEATS * LONGER):
        line = "".join(bait[: LINE_REPEATS // 2] for bait in text(LINE_REPEATS).splitlines())
        header = {"Stripe-Signature": line.encode("ascii", "ignore").decode()}
        started = time.process_time()
        for raw in raw_values(repeats):
            event = f'{{"id":"evt_1","object":"event","type":{raw},"created":1}}'
            for body in (raw.encode(), event.encode()):
                for answer in (await endpoint.deliver(body), await endpoint.post(body, header)):
                    assert answer.status == HTTPStatus.BAD_REQUEST
                    assert len(answer.body) <= RESPONSE_BYTES_MAX
        spent.append(time.process_time() - started)
    assert max(map(len, lines.getvalue().splitlines())) <= LOG_LINE_BYTES_MAX
    assert spent[1] < spent[0] * TIMES_LONGER_MAX


def of_a_body(operation: Operation, request: Request, repeats: int) -> list[Request]:
    """Return requests with bait in place of each field of the body, and of a field's name."""
    bodies = [
        with_field(request.body, field.location, raw)
        for field, raw in itertools.product(fields(operation), raw_values(repeats))
    ]
    named = json.dumps(request.body | {text(repeats): 1}).encode()
    return [replace(request, body=body) for body in (*bodies, named)]


async def test_r1_no_field_of_a_body_costs_more_than_its_length(
    world: World, lines: io.StringIO
) -> None:
    for operation in WITH_A_BODY:
        request = await world.request(operation, world.a)
        short = await cost(world, of_a_body(operation, request, REPEATS), lines)
        long = await cost(world, of_a_body(operation, request, REPEATS * LONGER), lines)
        assert long < short * TIMES_LONGER_MAX, operation.name


async def test_r1_no_path_query_or_header_costs_more_than_its_length(
    world: World, lines: io.StringIO
) -> None:
    for operation in OPERATIONS:
        request = await world.request(operation, world.a)
        short = await cost(world, of_a_line(operation, request, LINE_REPEATS), lines)
        long = await cost(world, of_a_line(operation, request, LINE_REPEATS * LONGER), lines)
        assert long < short * TIMES_LONGER_MAX, operation.name


def of_a_line(operation: Operation, request: Request, repeats: int) -> list[Request]:
    """Return requests with bait in the path, in each parameter of the query and in each header."""
    baits = text(repeats // 3).splitlines()
    everything = "".join(bait[: repeats // 3] for bait in baits)
    found = [
        replace(request, query={parameter: everything})
        for parameter in (*parameters(operation), everything)
    ]
    if "{" in operation.path:
        steps = operation.path.split("/")
        line = quote(everything, safe="")
        path = "/".join(line if step.startswith("{") else step for step in steps)
        found.append(replace(request, path=path))
    for header in HEADERS:
        value = everything.encode("ascii", "ignore").decode()
        found.append(replace(request, headers=[(header, value)]))
    return found
