"""Reading bodies and queries into the types that an operation declares."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from multidict import MultiMapping

from api.framework import fields
from shared.errors import InvalidRequestError, UnsupportedMediaTypeError, ValidationError
from shared.ledger.rules import nesting_refusal

Location = tuple[str | int, ...]
# What a refusal repeats of a request, in characters.
NAME_LENGTH_MAX = 100
MESSAGE_LENGTH_MAX = 300
PATH_LENGTH_MAX = 500
_AT = " - at `$"
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,9}|\.\.\.)\]|\[\]")
_NAMED = re.compile(rf"(?:unknown|required) field `([^`]{{0,{NAME_LENGTH_MAX}}})")


def check_content_type(headers: Mapping[str, str]) -> None:
    """Refuse a body that says of itself that it is not plain JSON in UTF-8."""
    said = headers.get("Content-Type", "application/json").lower()
    kind, _, parameters = said.partition(";")
    if kind.strip() != "application/json":
        raise UnsupportedMediaTypeError("Send the body as application/json.")
    if "charset" in parameters and "utf-8" not in parameters:
        raise UnsupportedMediaTypeError("Send the body in UTF-8.")


def body(raw: bytes, kind: type, where: Location = ("body",)) -> Any:
    """Read a body; raise InvalidRequestError where it is no JSON, ValidationError by field.

    Free JSON in it is nested no deeper than the ledger takes: whoever is given the body can write
    it again.
    """
    try:
        raw.decode()  # what a type only skips would not be looked at
        found = _decoder(kind).decode(raw)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), where) from None
    except msgspec.DecodeError as error:
        raise InvalidRequestError(f"The body is not JSON: {error}") from None
    except UnicodeDecodeError:
        raise InvalidRequestError("The body is not in UTF-8.") from None
    except RecursionError:
        raise InvalidRequestError("The body is nested too deeply.") from None
    for attribute, name in _free_json(kind):
        value = getattr(found, attribute)
        if value and (fault := nesting_refusal(name, value)):
            raise fields.invalid((*where, name), fault.partition(": ")[2])
    return found


def query(given: MultiMapping[str], kind: type | None) -> Any:
    """Read a query string; a name that is repeated or not known is refused by name."""
    known = _parameters(kind)
    found: dict[str, Any] = {}
    for name in dict.fromkeys(given):
        values = given.getall(name)
        if name not in known:
            raise _refused("query", name, "unknown parameter", "extra_forbidden")
        if any("\0" in value for value in values):
            raise _refused("query", name, "must not hold NUL", "value_error")
        if not known[name].is_text and any(value.lower() == "null" for value in values):
            # It would be read as if it were absent.
            raise _refused("query", name, "must not be null", "type_error")
        if known[name].is_list:
            found[name] = values
        elif len(values) == 1:
            found[name] = values[0]
        else:
            raise _refused("query", name, "must stand once", "value_error")
    if kind is None:
        return None
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), ("query",)) from None


@cache
def _decoder(kind: type) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


@cache
def _free_json(kind: type) -> Sequence[tuple[str, str]]:
    """Return the fields of a type that may hold any JSON: what they are called here and there."""
    hints = typing.get_type_hints(kind)
    return [
        (field.name, field.encode_name)
        for field in msgspec.structs.fields(kind)
        if dict[str, Any] in _parts(hints[field.name])
    ]


class _Parameter(typing.NamedTuple):
    """Whether a query parameter may be repeated, and whether it is any text."""

    is_list: bool
    is_text: bool


@cache
def _parameters(kind: type | None) -> Mapping[str, _Parameter]:
    """Return what a query may hold by its names."""
    if kind is None:
        return {}
    hints = typing.get_type_hints(kind)
    return {
        field.encode_name: _parameter(hints[field.name]) for field in msgspec.structs.fields(kind)
    }


def _parameter(hint: Any) -> _Parameter:
    parts = _parts(hint)
    is_list = any(typing.get_origin(part) is list for part in parts)
    return _Parameter(is_list, is_text=str in parts)


def _parts(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _refusal(said: str, where: Location) -> ValidationError:
    """Translate msgspec's sentence into a field and a message, whatever names are in it.

    A sentence may hold a name as long as the body: it is cut before any expression reads it.
    """
    message, found, path = said.rpartition(_AT)
    if not found:
        message, path = said, ""
    if len(message) > MESSAGE_LENGTH_MAX:
        message = message[:MESSAGE_LENGTH_MAX] + "…"
    location = [*where]
    for name, index in _STEP.findall(path[:PATH_LENGTH_MAX].removesuffix("`")):
        location.append(name or (int(index) if index.isdigit() else "…"))
    kind = "type_error"
    if named := _NAMED.search(message):
        location.append(named.group(1))
        kind = "extra_forbidden" if "unknown" in message else "missing"
    told = ".".join(str(part) for part in location[1:]) or where[0]
    return ValidationError(
        f"{told}: {message}", errors=[{"loc": location, "msg": message, "type": kind}]
    )


def _refused(where: str, name: str, message: str, kind: str) -> ValidationError:
    shown = name[:NAME_LENGTH_MAX]
    return ValidationError(
        f"{shown}: {message}", errors=[{"loc": [where, shown], "msg": message, "type": kind}]
    )
