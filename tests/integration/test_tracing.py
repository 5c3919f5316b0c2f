"""Traces: one for each event and each recharge attempt, across processes; nothing while off."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, StatusCode

from shared import tracing
from shared.errors import ConfigError
from tests.fixtures.product import Endpoint, create_organization, payment

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from tests.fixtures.recharging import Shop
    from worker.drainer import Drainer

ROOT = Path(__file__).parents[2]
SECRET = "sk_live_" + "of_a_payload_0123456789"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    processor = SimpleSpanProcessor(exporter)
    tracing.configure(enabled=True, process="prepaid-tests", processor=processor)
    yield exporter
    tracing.stop()


def spans(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def context(span: ReadableSpan) -> SpanContext:
    found = span.get_span_context()
    assert found is not None
    return found


async def test_a_delivery_and_the_effect_of_its_event_are_in_one_trace(
    pool: Pool, endpoint: Endpoint, drainer: Drainer, exporter: InMemorySpanExporter
) -> None:
    await create_organization(pool)
    for name in ("1", "2"):
        await endpoint.deliver(payment(name))
    await drainer.drain()
    received, applied = spans(exporter, "inbox.receive"), spans(exporter, "events.applied")
    (batch,) = spans(exporter, "events.apply")
    traces = {str((s.attributes or {})["event.id"]): context(s).trace_id for s in received}
    assert set(traces) == {"evt_1", "evt_2"}
    assert len(set(traces.values())) == 2
    assert traces == {str((s.attributes or {})["event.id"]): context(s).trace_id for s in applied}
    assert {link.context.trace_id for link in batch.links} == set(traces.values())
    assert {link.context.span_id for s in applied for link in s.links} == {context(batch).span_id}
    assert all(span.start_time == batch.start_time for span in applied)


async def test_the_requests_to_stripe_of_an_attempt_are_in_its_trace(
    shop: Shop, exporter: InMemorySpanExporter
) -> None:
    await shop.open()
    exporter.clear()
    await shop.work()
    (attempt,) = spans(exporter, "recharge.attempt")
    requests = spans(exporter, "stripe.request")
    assert [(s.attributes or {})["http.request.method"] for s in requests] == ["POST", "POST"]
    assert {name for s in requests for name in s.attributes or {}} == {
        "http.request.method",
        "http.response.status_code",
        "url.path",
    }  # no header, no parameter: they hold secrets
    assert {(s.attributes or {})["http.response.status_code"] for s in requests} == {200}
    assert {context(s).trace_id for s in requests} == {context(attempt).trace_id}
    assert {s.parent.span_id for s in requests if s.parent} == {context(attempt).span_id}


@pytest.mark.parametrize(
    "span",
    [
        lambda: tracing.span("inbox.receive", about="evt_1"),
        lambda: tracing.batch_span("events.apply", ["evt_1", "evt_2"]),
    ],
    ids=["span", "batch_span"],
)
async def test_a_span_that_fails_records_the_type_of_the_error_and_not_its_text(
    connection: Connection,
    exporter: InMemorySpanExporter,
    span: Callable[[], AbstractContextManager[object]],
) -> None:
    """PostgreSQL quotes the values that it refuses; payloads hold keys and card numbers."""
    with pytest.raises(asyncpg.DataError, match=SECRET), span():
        await connection.execute(f"SELECT '{SECRET}'::integer")
    (failed,) = exporter.get_finished_spans()
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.status.description == "InvalidTextRepresentationError"
    assert failed.events == ()
    assert SECRET not in failed.to_json()


def test_nothing_of_opentelemetry_is_imported_while_tracing_is_off() -> None:
    program = (
        "import sys, cli.app, cli.serve, worker.main, webhooks.app, api.app\n"
        "from shared import tracing\n"
        "tracing.configure(enabled=False, process='x')\n"
        "with tracing.span('a', about='b'), tracing.batch_span('c', ['d']):\n"
        "    tracing.record('e', {}, about='f')\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


def test_without_the_packages_the_start_says_how_to_install_them() -> None:
    """The suite has the SDK and no exporter."""
    with pytest.raises(ConfigError, match=r"prepaid\[tracing\]"):
        tracing.configure(enabled=True, process="x")
