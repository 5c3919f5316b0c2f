"""Structured logs: one JSON object a line, joined by request_id, event_id and job_id.

No secret, card number or signature reaches a line: values are masked by the name of their field
and by their own form, in our lines and in those of the libraries.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import msgspec
import structlog

from shared.config import LogFormat

MASK = "[masked]"
_SECRET_FIELD = re.compile(
    r"secret|authorization|signature|api_?key|password|card_number|cvc", re.IGNORECASE
)
_SECRET_VALUE = re.compile(
    r"\b(?:sk|rk)_(?:test|live)_\w+|\bwhsec_\w+|\bpk_\w{24,}"
    r"|\b\w+_secret_\w+|\bv[01]=[0-9a-f]{16,}|://[^/@\s]*:[^/@\s]+@|\b\d(?:[ -]?\d){12,18}\b"
)


def mask(text: str) -> str:
    """Return the text with keys, secrets, signatures, passwords and card numbers hidden."""
    return _SECRET_VALUE.sub(MASK, text)


def _mask_event(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if _SECRET_FIELD.search(key):
            event[key] = MASK
        elif isinstance(value, str):
            event[key] = mask(value)
    return event


def _render_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def configure(log_format: LogFormat, level: str, stream: TextIO = sys.stderr) -> None:
    """Send every log line of this process, our own and the libraries', to one stream.

    JSON: one object a line with `timestamp` (UTC, ISO 8601), `level`, `logger` and `event`.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _mask_event,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=_plain)
        if log_format is LogFormat.CONSOLE
        else _render_json
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelName(level)))


def _plain(stream: TextIO, exc_info: Any) -> None:
    structlog.dev.plain_traceback(stream, exc_info)
