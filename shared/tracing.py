"""Traces with OpenTelemetry, off by default: without PREPAID_TRACING nothing of it is imported.

All spans about one event, or one recharge attempt, are in one trace, in whichever process: the
trace's id is derived from the event's id, so that nothing is stored to carry it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.trace import Link, Span, SpanContext

Attributes = dict[str, str | int | bool]

LINKS_MAX = 128
_TRACE_ID_BYTES = 16
_SPAN_ID_BYTES = 8
_OFF: AbstractContextManager[None] = nullcontext()


class _Tracing:
    """The provider of this process; None while tracing is off."""

    provider: TracerProvider | None = None


def configure(*, enabled: bool, process: str, processor: SpanProcessor | None = None) -> None:
    """Turn tracing on in this process, with OTLP to where the OTEL_ variables say.

    Raises ConfigError where OpenTelemetry is not installed. `processor` replaces the exporter.
    """
    if not enabled:
        return
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - only where it is on
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

        provider = TracerProvider(resource=Resource.create({"service.name": process}))
        provider.add_span_processor(processor or _otlp())
    except ImportError as error:
        raise ConfigError(
            "PREPAID_TRACING", "is 1, and OpenTelemetry is missing: pip install 'prepaid[tracing]'"
        ) from error
    _Tracing.provider = provider


def stop() -> None:
    """Send what is left, and turn tracing off."""
    if _Tracing.provider is not None:
        _Tracing.provider.shutdown()
        _Tracing.provider = None


def span(
    name: str, attributes: Attributes | None = None, *, about: str | None = None
) -> AbstractContextManager[Span | None]:
    """Return a span to enter: a child of the current one, or in the trace of what it is about."""
    provider = _Tracing.provider
    if provider is None:
        return _OFF
    context = None if about is None else _context(provider, about)
    return _current_span(provider, name, context=context, attributes=attributes)


def batch_span(name: str, about: Sequence[str]) -> AbstractContextManager[Span | None]:
    """Return a span for work on several things at once, linked to the trace of each."""
    provider = _Tracing.provider
    if provider is None:
        return _OFF
    from opentelemetry.trace import Link  # noqa: PLC0415 - only where it is on

    links = [Link(_span_context(provider, one)) for one in about[:LINKS_MAX]]
    return _current_span(provider, name, links=links)


def record(name: str, attributes: Attributes, *, about: str) -> None:
    """Record a part of the current batch that concerns one thing, in the trace of that thing."""
    provider = _Tracing.provider
    if provider is None:
        return
    from opentelemetry import trace  # noqa: PLC0415 - only where it is on

    batch: Any = trace.get_current_span()
    began: ReadableSpan | None = batch if batch.is_recording() else None
    provider.get_tracer(__name__).start_span(
        name,
        context=_context(provider, about),
        attributes=attributes,
        links=[trace.Link(batch.get_span_context())] if began is not None else [],
        start_time=None if began is None else began.start_time,
    ).end()


@contextmanager
def _current_span(
    provider: TracerProvider,
    name: str,
    *,
    context: Context | None = None,
    attributes: Attributes | None = None,
    links: Sequence[Link] = (),
) -> Iterator[Span]:
    """Enter a span. Of an error it records the type alone: its text may hold a payload."""
    from opentelemetry.trace import StatusCode  # noqa: PLC0415 - only where it is on

    with provider.get_tracer(__name__).start_as_current_span(
        name,
        context=context,
        attributes=attributes,
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except Exception as error:
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise


def _context(provider: TracerProvider, about: str) -> Context:
    from opentelemetry import trace  # noqa: PLC0415 - only where it is on

    return trace.set_span_in_context(trace.NonRecordingSpan(_span_context(provider, about)))


def _span_context(provider: TracerProvider, about: str) -> SpanContext:
    """Return the root that all spans about one thing have, with its sampling decision.

    The decision depends on the trace's id alone, so that every process takes the same.
    """
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415 - only where it is on

    digest = hashlib.sha256(about.encode()).digest()
    trace_id = int.from_bytes(digest[:_TRACE_ID_BYTES], "big")
    span_id = int.from_bytes(digest[_TRACE_ID_BYTES:][:_SPAN_ID_BYTES], "big")
    decision = provider.sampler.should_sample(None, trace_id, about).decision
    sampled = decision.name == "RECORD_AND_SAMPLE"
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)


def _otlp() -> SpanProcessor:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    return BatchSpanProcessor(OTLPSpanExporter())
