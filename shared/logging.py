"""Structured logs: one JSON object a line, joined by request_id, event_id and job_id.

No secret, card number or signature reaches a line: values are masked by the name of their field
and by their own form, in our lines and in those of the libraries. A line is bounded, and so is the
work that it takes, whatever is in it.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import sys
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any, TextIO

import msgspec
import structlog

from shared.config import LogFormat

MASK = "[masked]"
CUT = "…"

# Bounds in characters: whatever a client, a server or a library wrote is cut before any expression
# reads it.
TEXT_LENGTH_MAX = 2_000
TRACE_LENGTH_MAX = 16_000
NAME_LENGTH_MAX = 100
LINE_LENGTH_MAX = 64_000
# No secret is longer: the possible rest of a secret at a cut is dropped with it.
SECRET_LENGTH_MAX = 200
NESTING_LEVELS_MAX = 8
# What JSON encoders take.
INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**64 - 1
CARD_NUMBER_MIN = 10**12  # 13 digits
_TRACES = frozenset({"exception", "stack"})

_SECRET_NAME = re.compile(
    r"secret|authorization|signature|api_?key|password|card_number|cvc", re.IGNORECASE
)
# At any place each alternative has one way to match, so a search is linear in the text.
# The second: behind an escape such as \\n, as `repr` writes it.
_SECRET_VALUE = re.compile(
    r"(?:\b|(?<=\\[nrt]))(?:(?:sk|rk)_(?:test|live)_\w+|ppk_[\w-]+|whsec_[\w+/=]+"
    r"|v[01]=[0-9a-f]{16,})|\b\w+_secret_\w+|(?<=://)[^/\s:@]*+:[^/\s]+(?=@)"
    r"|(?<=[?&]password=)[^&\s'\"]+|(?<=/pay/)[\w-]{20,}"
)
_CARD_NUMBER = re.compile(r"(?:(?<![\w.-])|(?<=\\[nrt]))\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)")

# A text without any of these cannot hold a secret, and most texts have none: the patterns above are
# not run on them. The ids of requests, with their 8 digits, have none either.
_SIGNS_OF_SECRET = (
    "k_test_", "k_live_", "ppk_", "whsec_", "_secret_", "v0=", "v1=", "://", "password=", "/pay/",
)  # fmt: skip
_SIGN_OF_CARD_NUMBER = re.compile(r"[\d -]{13}")


def mask(text: str, *, length_max: int = TEXT_LENGTH_MAX) -> str:
    """Return the text with keys, secrets, signatures, passwords and card numbers hidden.

    A longer text is cut to `length_max` characters.
    """
    if len(text) <= length_max:
        return _hide(text)
    return _hide(text[:length_max])[:-SECRET_LENGTH_MAX] + CUT


def _mask_trace(text: str) -> str:
    """Mask a trace: of a long one its beginning and its end, which says what was raised."""
    if len(text) <= TRACE_LENGTH_MAX:
        return _hide(text)
    half = TRACE_LENGTH_MAX // 2
    return mask(text, length_max=half) + _hide(text[-half:])[SECRET_LENGTH_MAX:]


def _hide(text: str) -> str:
    if not _may_hold_secret(text):
        return text
    return _CARD_NUMBER.sub(MASK, _SECRET_VALUE.sub(MASK, text))


def _may_hold_secret(text: str) -> bool:
    return (
        any(map(text.__contains__, _SIGNS_OF_SECRET))
        or _SIGN_OF_CARD_NUMBER.search(text) is not None
    )


@functools.lru_cache(maxsize=1024)
def _name(name: str) -> tuple[str, bool]:
    """Return the name of a field as it is logged, and whether its value is secret."""
    masked = mask(name)
    return masked, _SECRET_NAME.search(masked) is not None


def _is_plain(event: Mapping[Any, Any]) -> bool:
    """Whether a line has short texts and small numbers alone, and nothing to hide.

    Most lines do, and stay as they are: one look at all of their texts. No pattern spans two of
    them, since none matches a line feed.
    """
    texts = []
    for key, value in event.items():
        if type(key) is not str or len(key) > NAME_LENGTH_MAX or key in _TRACES:
            return False
        if _name(key) != (key, False):
            return False
        kind = type(value)
        if kind is str:
            texts.append(value)
        elif not (value is None or kind is bool or (kind is int and abs(value) < CARD_NUMBER_MIN)):
            return False
    text = "\n".join(texts)
    return len(text) <= TEXT_LENGTH_MAX and _hide(text) == text


class _Line:
    """Masks the values of one line, which share its room."""

    def __init__(self) -> None:
        self._room = LINE_LENGTH_MAX

    def fields(self, values: Mapping[Any, Any], level: int = 0) -> dict[str, Any]:
        masked: dict[str, Any] = {}
        for key, value in values.items():
            if self._room <= 0 and level:  # a line's own fields are few, and each is bounded
                masked[CUT] = CUT
                break
            name, is_secret = _name(str(key)[:NAME_LENGTH_MAX])
            self._room -= len(name)
            if is_secret:
                masked[name] = MASK
            elif type(value) is str and name not in _TRACES:  # most values are
                masked[name] = self._take(mask(value))
            elif name in _TRACES and level == 0:
                masked[name] = self._take(_mask_trace(str(value)))
            else:
                masked[name] = self._masked(value, level)
        return masked

    def _masked(self, value: Any, level: int) -> Any:
        """Return a value without secrets; any other than a plain value is formatted first."""
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return self._integer(value)
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            if level == NESTING_LEVELS_MAX:
                return CUT
            if isinstance(value, Mapping):
                return self.fields(value, level + 1)
            return self._items(value, level + 1)
        return self._take(mask(str(value)))

    def _items(self, values: Collection[Any], level: int) -> list[Any]:
        masked: list[Any] = []
        for value in values:
            if self._room <= 0:
                masked.append(CUT)
                break
            self._room -= 1
            masked.append(self._masked(value, level))
        return masked

    def _integer(self, value: int) -> int | str:
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            return f"[an integer of {value.bit_length()} bits]"
        return MASK if _hide(str(value)) == MASK else value

    def _take(self, text: str) -> str:
        self._room -= len(text)
        return text


def _mask_fields(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    # Before the line is encoded: an escape such as \n would put a letter in front of a secret.
    return event if _is_plain(event) else _Line().fields(event)


def _render_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    try:
        return msgspec.json.encode(event).decode()
    except UnicodeEncodeError:  # half of a surrogate pair in a logged value
        return json.dumps(event)


def configure(log_format: LogFormat, level: str, stream: TextIO = sys.stderr) -> None:
    """Send every log line of this process, our own and the libraries', to one stream.

    JSON: one object a line with `timestamp` (UTC, ISO 8601), `level` and `event`, whose first word
    is the part of Prepaid that logs; `logger` is the library, if one does.
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
