"""Parsing bodies and queries into the types that an operation declares."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, cast

import msgspec
from aiohttp import hdrs
from multidict import MultiMapping

from api.framework import fields
from shared.errors import (
    InvalidRequestError,
    PrepaidError,
    UnsupportedMediaTypeError,
    ValidationError,
)
from shared.ledger.rules import nesting_refusal

Location = tuple[str | int, ...]
# What an error repeats of a request, in characters.
NAME_LENGTH_MAX = 100
MESSAGE_LENGTH_MAX = 300
PATH_LENGTH_MAX = 500
_JSON = "application/json"
_AT = " - at `$"
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,9}|\.\.\.)\]|\[\]")
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NO_MOMENT = "must be a time such as 2031-01-31T09:30:00Z"
_NAMED = re.compile(rf"(?:unknown|required) field `([^`]{{0,{NAME_LENGTH_MAX}}})")


def check_content_type(headers: Mapping[str, str]) -> None:
    """Raise UnsupportedMediaTypeError unless the Content-Type is JSON in UTF-8."""
    content_type = headers.get(hdrs.CONTENT_TYPE, _JSON).lower()
    if content_type == _JSON:
        return
    kind, _, parameters = content_type.partition(";")
    if kind.strip() != _JSON:
        raise UnsupportedMediaTypeError("Send the body as application/json.")
    if "charset" in parameters and "utf-8" not in parameters:
        raise UnsupportedMediaTypeError("Send the body in UTF-8.")


def body(raw: bytes, kind: type, where: Location = ("body",)) -> Any:
    """Parse a body; raise InvalidRequestError if it is not JSON, ValidationError for a field.

    Free-form JSON in it is limited to the ledger's nesting depth, so that it can be stored.
    """
    parsed = _decode(raw, kind, where)
    _check_nesting(parsed, kind, where)
    return parsed


def items(
    raws: Sequence[msgspec.Raw], kind: type, where: Callable[[int], Location]
) -> list[Any | PrepaidError]:
    """Parse the items of a body, each as `body` does; return its error in place of one that fails.

    `where` returns the location of an item by its place. All are decoded at once: as a rule each
    is valid.
    """
    try:
        parsed = _decode(b"[%b]" % b",".join(raws), list[kind], ("body",))  # type: ignore[valid-type]
    except PrepaidError:
        return [_item(raw, kind, where(place)) for place, raw in enumerate(raws)]
    free = [attribute for attribute, _ in _free_json(kind)]
    for place, item in enumerate(parsed):
        for attribute in free:
            if getattr(item, attribute):
                parsed[place] = _item(raws[place], kind, where(place))
    return cast("list[Any | PrepaidError]", parsed)


def _item(raw: msgspec.Raw, kind: type, where: Location) -> Any | PrepaidError:
    try:
        return body(bytes(raw), kind, where)
    except PrepaidError as error:
        return error


def _decode(raw: bytes, kind: Any, where: Location) -> Any:
    try:
        raw.decode()  # msgspec does not decode values that it skips
        return _decoder(kind).decode(raw)
    except msgspec.ValidationError as error:
        raise _field_error(str(error), where) from None
    except msgspec.DecodeError as error:
        raise InvalidRequestError(f"The body is not JSON: {error}") from None
    except UnicodeDecodeError:
        raise InvalidRequestError("The body is not in UTF-8.") from None
    except RecursionError:
        raise InvalidRequestError("The body is nested too deeply.") from None


def _check_nesting(parsed: Any, kind: type, where: Location) -> None:
    for attribute, name in _free_json(kind):
        value = getattr(parsed, attribute)
        if value and (fault := nesting_refusal(name, value)):
            raise fields.invalid((*where, name), fault.partition(": ")[2])


def query(parameters: MultiMapping[str], kind: type | None) -> Any:
    """Parse a query string; raise ValidationError for an unknown or repeated name."""
    if kind is None and not parameters:
        return None
    known = _parameters(kind)
    values_by_name: dict[str, Any] = {}
    for name in dict.fromkeys(parameters):
        values = parameters.getall(name)
        if name not in known:
            raise _parameter_error("query", name, "unknown parameter", "extra_forbidden")
        _check_values(name, values, known[name])
        values_by_name[name] = values if known[name].is_list else values[0]
    if kind is None:
        return None
    try:
        return msgspec.convert(values_by_name, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _field_error(str(error), ("query",)) from None


def _check_values(name: str, values: Sequence[str], known: _Parameter) -> None:
    """Raise ValidationError for values that msgspec would read as something else."""
    if any("\0" in value for value in values):
        raise _parameter_error("query", name, "must not hold NUL", "value_error")
    if not known.is_text and any(value.lower() == "null" for value in values):  # absent
        raise _parameter_error("query", name, "must not be null", "type_error")
    if known.is_moment and not all(map(_DATE.match, values)):  # seconds since 1970
        raise _parameter_error("query", name, _NO_MOMENT, "value_error")
    if not known.is_list and len(values) > 1:
        raise _parameter_error("query", name, "must be given once", "value_error")


@cache
def _decoder(kind: type) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


@cache
def _free_json(kind: type) -> Sequence[tuple[str, str]]:
    """Return the free-form JSON fields of a type: attribute and encoded name."""
    hints = typing.get_type_hints(kind)
    return [
        (field.name, field.encode_name)
        for field in msgspec.structs.fields(kind)
        if dict[str, Any] in _parts(hints[field.name])
    ]


class _Parameter(typing.NamedTuple):
    """Whether a query parameter may be repeated, is free text, or is a moment."""

    is_list: bool
    is_text: bool
    is_moment: bool


@cache
def _parameters(kind: type | None) -> Mapping[str, _Parameter]:
    """Return the query parameters of a type by name."""
    if kind is None:
        return {}
    hints = typing.get_type_hints(kind)
    return {
        field.encode_name: _parameter(hints[field.name]) for field in msgspec.structs.fields(kind)
    }


def _parameter(hint: Any) -> _Parameter:
    parts = _parts(hint)
    is_list = any(typing.get_origin(part) is list for part in parts)
    return _Parameter(is_list, is_text=str in parts, is_moment=datetime in parts)


def _parts(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _field_error(text: str, where: Location) -> ValidationError:
    """Translate msgspec's message into a field location and a message.

    The message may repeat a name as long as the body, so it is truncated before matching.
    """
    message, separator, path = text.rpartition(_AT)
    if not separator:
        message, path = text, ""
    if len(message) > MESSAGE_LENGTH_MAX:
        message = message[:MESSAGE_LENGTH_MAX] + "…"
    location = [*where]
    for name, index in _STEP.findall(path[:PATH_LENGTH_MAX].removesuffix("`")):
        location.append(name or (int(index) if index.isdigit() else "…"))
    kind = "type_error"
    if named := _NAMED.search(message):
        location.append(named.group(1))
        kind = "extra_forbidden" if "unknown" in message else "missing"
    field = ".".join(str(part) for part in location[1:]) or where[0]
    return ValidationError(
        f"{field}: {message}", errors=[{"loc": location, "msg": message, "type": kind}]
    )


def _parameter_error(where: str, name: str, message: str, kind: str) -> ValidationError:
    name = name[:NAME_LENGTH_MAX]
    return ValidationError(
        f"{name}: {message}", errors=[{"loc": [where, name], "msg": message, "type": kind}]
    )
