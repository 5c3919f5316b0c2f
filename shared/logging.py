"""Structured logs: one JSON object a line, joined by request_id, event_id and job_id.

No secret, card number or signature reaches a line: values are masked by the name of their field
and by their own form, in our lines and in those of the libraries.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import msgspec
import structlog

from shared.config import LogFormat

MASK = "[masked]"
_SECRET_NAME = re.compile(
    r"secret|authorization|signature|api_?key|password|card_number|cvc", re.IGNORECASE
)
_SECRET_VALUE = re.compile(
    r"\b(?:sk|rk)_(?:test|live)_\w+|\bppk_[\w-]+|\bwhsec_[\w+/=]+"
    r"|\b\w+_secret_\w+|\bv[01]=[0-9a-f]{16,}|(?<=://)[^/@\s]*:[^/@\s]+(?=@)"
)
_CARD_NUMBER = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)")

# A text without any of these cannot hold a secret, and most texts have none: the patterns above are
# not run on them.
_SIGN_OF_SECRET = re.compile(r"k_(?:test|live)_|ppk_|whsec_|_secret_|v[01]=|://|\d{4}[ -]?\d{4}")


def mask(text: str) -> str:
    """Return the text with keys, secrets, signatures, passwords and card numbers hidden."""
    if _SIGN_OF_SECRET.search(text) is None:
        return text
    return _CARD_NUMBER.sub(MASK, _SECRET_VALUE.sub(MASK, text))


@functools.cache
def _is_secret_name(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _masked(value: Any) -> Any:
    """Return a value without secrets; whatever is no plain value is written as text first."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return MASK if mask(str(value)) == MASK else value
    if isinstance(value, Mapping):
        return {
            str(name): MASK if _is_secret_name(str(name)) else _masked(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(item) for item in value]
    return mask(str(value))


def _mask_fields(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    # Before the line is encoded: an escape such as \n would put a letter in front of a secret.
    masked: dict[str, Any] = _masked(event)
    return masked


def _render_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    try:
        return msgspec.json.encode(event).decode()
    except UnicodeEncodeError:  # half of a surrogate pair, out of somebody's data
        return json.dumps(event)


def configure(log_format: LogFormat, level: str, stream: TextIO = sys.stderr) -> None:
    """Send every log line of this process, our own and the libraries', to one stream.

    JSON: one object a line with `timestamp` (UTC, ISO 8601), `level` and `event`, whose first word
    is the part of Prepaid that speaks; `logger` names a library that does.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _mask_fields,
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
