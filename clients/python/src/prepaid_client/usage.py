"""The measures of a model call, from the usage that its provider reports.

Reads the usage of OpenAI (chat completions and responses), of Anthropic, and of what is compatible
with either, as an object or a mapping. What a book does not price separately is part of
`input_tokens` or `output_tokens` there, and is included in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_INPUT = ("input_tokens", "prompt_tokens")
_OUTPUT = ("output_tokens", "completion_tokens")
_INPUT_DETAILS = ("input_tokens_details", "prompt_tokens_details")
_OUTPUT_DETAILS = ("output_tokens_details", "completion_tokens_details")
# Anthropic counts these besides its input_tokens; a price book, within them.
_CACHE_READ = "cache_read_input_tokens"
_CACHE_WRITE = "cache_creation_input_tokens"


def measures_of(usage: object) -> dict[str, int]:
    """Return the measures of a call: every token in `input_tokens` or `output_tokens`.

    `cached_input_tokens`, `cache_write_tokens` and `reasoning_tokens` are parts of them, where
    there are any. A side that is not reported has no measure: the last event of a stream may report
    its output alone. Raises ValueError for what has no token counts.
    """
    given, made = _first(usage, _INPUT), _first(usage, _OUTPUT)
    if given is None and made is None:
        raise ValueError(f"{type(usage).__name__} has neither input_tokens nor prompt_tokens")
    measures: dict[str, int] = {}
    if given is not None:
        measures |= _input(usage, _count(given))
    if made is not None:
        reasoning = _count(_field(_first(usage, _OUTPUT_DETAILS), "reasoning_tokens"))
        measures |= {"output_tokens": _count(made), **_parts(reasoning_tokens=reasoning)}
    return measures


def _input(usage: object, given: int) -> dict[str, int]:
    details = _first(usage, _INPUT_DETAILS)
    if details is not None:
        cached = _count(_field(details, "cached_tokens"))
        return {"input_tokens": given, **_parts(cached_input_tokens=cached)}
    read, written = _count(_field(usage, _CACHE_READ)), _count(_field(usage, _CACHE_WRITE))
    return {
        "input_tokens": given + read + written,
        **_parts(cached_input_tokens=read, cache_write_tokens=written),
    }


def _parts(**counts: int) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _first(source: object, names: tuple[str, ...]) -> Any:
    found = (_field(source, name) for name in names)
    return next((value for value in found if value is not None), None)


def _field(source: object, name: str) -> Any:
    if isinstance(source, Mapping):
        return source.get(name)
    return getattr(source, name, None)


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0
