"""Form-encoded parameters: decode `a[b][0]=c` and hold them against what an endpoint takes.

https://docs.stripe.com/api — requests are form-encoded, `[]` and `[0]` both make a list, and an
empty string means "unset".
"""

import re
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Any, Final
from urllib.parse import parse_qsl

from sandbox.stripe import errors

Params = dict[str, Any]

FIELDS_MAX: Final = 2_000
METADATA_KEYS_MAX: Final = 50
METADATA_KEY_LENGTH_MAX: Final = 40
METADATA_VALUE_LENGTH_MAX: Final = 500
_KEY: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_PART: Final = re.compile(r"\[([^\[\]]*)\]")


class Kind(Enum):
    """What one parameter holds."""

    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    METADATA = "metadata"
    TEXTS = "list of text"
    RANGE = "timestamp or {gt, gte, lt, lte}"
    FREE = "anything: accepted, kept or ignored by the endpoint"


class Choice(tuple[str, ...]):
    """A text that must be one of these."""

    __slots__ = ()


class Items(dict[str, Any]):
    """A list of hashes, each with this shape."""


Shape = Mapping[str, "Kind | Choice | Items | Shape"]


def decode(raw: bytes) -> Params:
    """Turn a form body or a query string into nested dicts of text; lists have number keys."""
    try:
        pairs = parse_qsl(
            raw.decode(),
            keep_blank_values=True,
            strict_parsing=bool(raw),
            max_num_fields=FIELDS_MAX,
        )
    except ValueError as error:
        raise errors.malformed("Invalid request body: it must be form-encoded.") from error
    tree: Params = {}
    for key, value in pairs:
        _insert(tree, key, value)
    return tree


def _insert(tree: Params, key: str, value: str) -> None:
    match = _KEY.fullmatch(key)
    if match is None:
        raise errors.malformed(f"Invalid parameter name: {key}", param=key)
    path = [match[1], *_PART.findall(match[2])]
    node = tree
    for part in path[:-1]:
        node = node.setdefault(part or str(len(node)), {})
        if not isinstance(node, dict):
            raise errors.malformed(f"Invalid hash: {key}", param=key)
    node[path[-1] or str(len(node))] = value


def check(tree: Params, shape: Shape, required: Collection[str] = ()) -> Params:
    """Give every parameter its type, or refuse.

    Unknown names are refused first, then missing ones, then wrong values, as Stripe does.
    """
    unknown = _unknown(tree, shape, "")
    if unknown:
        raise errors.unknown_parameters(unknown)
    for name in required:
        if name not in tree:
            raise errors.missing_parameter(name)
    return {name: _value(value, shape[name], name) for name, value in tree.items()}


def _unknown(tree: Params, shape: Shape, prefix: str) -> list[str]:
    found: list[str] = []
    for name, value in tree.items():
        path = f"{prefix}[{name}]" if prefix else name
        expected = shape.get(name)
        if expected is None:
            found.append(path)
        elif isinstance(expected, Items) and isinstance(value, dict):
            for index, item in value.items():
                if isinstance(item, dict):
                    found += _unknown(item, expected, f"{path}[{index}]")
        elif isinstance(expected, Mapping) and isinstance(value, dict):
            found += _unknown(value, expected, path)
    return found


def _value(value: Any, expected: Any, param: str) -> Any:
    if isinstance(expected, Choice):
        return _choice(_text(value, param), expected, param)
    if isinstance(expected, Items):
        return [
            {
                name: _value(part, expected[name], f"{param}[{i}][{name}]")
                for name, part in item.items()
            }
            for i, item in enumerate(_items(value, param))
        ]
    if isinstance(expected, Mapping):
        if not isinstance(value, dict):
            raise errors.malformed(f"Invalid object: {value}", param=param)
        return {n: _value(part, expected[n], f"{param}[{n}]") for n, part in value.items()}
    return _scalar(value, expected, param)


def _scalar(value: Any, kind: Kind, param: str) -> Any:
    return value if kind is Kind.FREE else _READERS[kind](value, param)


def _texts(value: Any, param: str) -> list[str]:
    return [_text(item, f"{param}[{i}]") for i, item in enumerate(_items(value, param))]


def _text(value: Any, param: str) -> str:
    if not isinstance(value, str):
        raise errors.malformed(f"Invalid string: {value}", param=param)
    return value


def _integer(value: Any, param: str) -> int:
    if _text(value, param) == "":
        raise _empty(param)
    if re.fullmatch(r"-?\d{1,18}", value) is None:
        message = f"Invalid integer: {value}"
        raise errors.malformed(message, param=param, code="parameter_invalid_integer")
    return int(value)


def _boolean(value: Any, param: str) -> bool:
    if _text(value, param) == "":
        raise _empty(param)
    if value.lower() not in {"true", "false"}:
        raise errors.malformed(f"Invalid boolean: {value}", param=param)
    return bool(value.lower() == "true")


def _choice(value: str, choices: Choice, param: str) -> str:
    if value == "":
        raise _empty(param)
    if value not in choices:
        names = f"{', '.join(choices[:-1])}, or {choices[-1]}" if len(choices) > 1 else choices[0]
        raise errors.malformed(f"Invalid {param}: must be one of {names}", param=param)
    return value


def _empty(param: str) -> errors.ApiError:
    message = (
        f"You passed an empty string for '{param}'. We assume empty values are an attempt to unset "
        f"a field; however '{param}' cannot be unset. You should remove '{param}' from your "
        "request or supply a non-empty value."
    )
    return errors.malformed(message, param=param, code="parameter_invalid_empty")


def _items(value: Any, param: str) -> list[Any]:
    if value == "":
        return []
    if not isinstance(value, dict) or not all(key.isdigit() for key in value):
        raise errors.malformed("Invalid array", param=param)
    return [value[key] for key in sorted(value, key=int)]


def _metadata(value: Any, param: str) -> dict[str, str]:
    if value == "":
        return {}
    if not isinstance(value, dict):
        raise errors.malformed("Invalid object", param=param)
    for key, text in value.items():
        if (
            len(key) > METADATA_KEY_LENGTH_MAX
            or len(_text(text, param)) > METADATA_VALUE_LENGTH_MAX
        ):
            message = (
                f"Invalid {param}: keys have at most {METADATA_KEY_LENGTH_MAX} and values at most "
                f"{METADATA_VALUE_LENGTH_MAX} characters."
            )
            raise errors.malformed(message, param=f"{param}[{key}]")
    if len(value) > METADATA_KEYS_MAX:
        raise errors.malformed(f"Metadata has at most {METADATA_KEYS_MAX} keys.", param=param)
    return value


def _range(value: Any, param: str) -> dict[str, int]:
    if isinstance(value, str):
        moment = _integer(value, param)
        return {"gte": moment, "lte": moment}
    bounds: dict[str, int] = {}
    for name, text in value.items():
        if name not in {"gt", "gte", "lt", "lte"}:
            raise errors.unknown_parameters([f"{param}[{name}]"])
        bounds[name] = _integer(text, f"{param}[{name}]")
    return bounds


_READERS: Final[dict[Kind, Callable[[Any, str], Any]]] = {
    Kind.TEXT: _text,
    Kind.INTEGER: _integer,
    Kind.BOOLEAN: _boolean,
    Kind.METADATA: _metadata,
    Kind.TEXTS: _texts,
    Kind.RANGE: _range,
}


def merge_metadata(old: Mapping[str, str], new: Mapping[str, str] | None) -> dict[str, str]:
    """Merge key by key; an empty value removes its key, an empty hash removes all of them.

    https://docs.stripe.com/api/metadata
    """
    if new == {}:
        return {}
    merged = {**old, **(new or {})}
    return {key: value for key, value in merged.items() if value != ""}


def text_or_none(params: Params, name: str) -> str | None:
    """Read an optional text; the empty string unsets."""
    return params.get(name) or None
