"""Price books as TOML or JSON files, and as the content that is stored."""

from __future__ import annotations

import hashlib
import tomllib
from decimal import Decimal
from typing import Any

import msgspec

from shared.counts import counted
from shared.errors import ValidationError
from shared.pricing.forms import BookForm, RateForm, book_form
from shared.pricing.model import PriceBook
from shared.pricing.validation import Reader

FILE_BYTES_MAX = 16 * 1024 * 1024
_canonical = msgspec.json.Encoder(order="sorted")
_BARE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")


def read(text: str, *, toml: bool) -> PriceBook:
    """Read a book from a file; raise ValidationError with everything that is wrong with it."""
    if len(text) > FILE_BYTES_MAX:
        raise ValidationError(f"A price book has at most {FILE_BYTES_MAX} characters.")
    try:
        if toml:
            parsed = tomllib.loads(text, parse_float=Decimal)
            return from_form(msgspec.convert(parsed, BookForm))
        return from_form(msgspec.json.decode(text, type=BookForm))
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise ValidationError(f"This is no price book: {error}.") from error


def from_form(form: BookForm) -> PriceBook:
    """Check a book; raise ValidationError with everything that is wrong with it."""
    reader = Reader()
    book = reader.book(form)
    if reader.problems:
        first = reader.problems[0]
        raise ValidationError(
            f"The price book has {counted(len(reader.problems), 'problem')}, the first at"
            f" {'.'.join(map(str, first['loc']))}: {first['msg']}.",
            errors=reader.problems,
        )
    return book


def to_content(book: PriceBook) -> dict[str, Any]:
    """Return a book as JSON, to be stored or answered."""
    content: dict[str, Any] = msgspec.to_builtins(book_form(book))
    return content


def from_content(content: dict[str, Any], *, version: int) -> PriceBook:
    """Return a stored version; it was checked when it was stored."""
    book = Reader().book(msgspec.convert(content, BookForm))
    return msgspec.structs.replace(book, version=version)


def digest(content: dict[str, Any]) -> bytes:
    """Return the SHA-256 of a book's content, independent of the order of its keys."""
    return hashlib.sha256(_canonical.encode(content)).digest()


def write_toml(book: PriceBook) -> str:
    """Return a book as a TOML file: a block of lines for each price, a line for each measure."""
    form = book_form(book)
    lines = [f"name = {_value(form.name)}"]
    lines += _set_entries(form, "note", "markup", "prompt")
    if form.within:
        lines += ["", "[within]", *_entries(form.within)]
    for price in form.prices:
        lines += ["", "[[prices]]"]
        lines += _set_entries(price, "models", "meters", "minimum", "markup", "hours")
        lines += ["[prices.measures]", *_entries(price.measures)]
        if price.within is not None:
            lines += ["[prices.within]", *_entries(price.within)]
    return "\n".join(lines) + "\n"


def _set_entries(form: msgspec.Struct, *names: str) -> list[str]:
    values = {name: getattr(form, name) for name in names}
    return _entries({name: value for name, value in values.items() if value})


def _entries(table: dict[str, Any]) -> list[str]:
    return [f"{_key(name)} = {_value(value)}" for name, value in table.items()]


def _key(name: str) -> str:
    return name if name and _BARE.issuperset(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, RateForm):
        tiers = ",\n".join(
            "    { " + ", ".join(f"{k} = {_value(v)}" for k, v in tier.items()) + " }"
            for tier in msgspec.to_builtins(value.tiers)
        )
        return f'{{ by = "{value.by}", tiers = [\n{tiers},\n] }}'
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, int):
        return str(value)
    # A TOML string has JSON's escapes; JSON leaves only DEL as it is.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
