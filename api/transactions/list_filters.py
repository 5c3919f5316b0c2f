"""Parsing the filters of the transaction list into the ledger's filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from api.framework import fields
from shared.ids import parse_id
from shared.ledger import rules
from shared.ledger.filters import COLUMNS, OPERATORS, Filter, Kind, Operator, Value
from shared.ledger.model import TransactionType
from shared.ledger.origin import OWN

FILTERS_MAX = 20
VALUES_MAX = 100
TEXT_LENGTH_MAX = 1_000
METADATA_PREFIX = "metadata__"

# The ledger's name of each field of the list.
FIELDS = {
    "id": "id",
    "organization_subscription": "organization_number",
    "unique_organization_id": "organization_id",
    "amount": "amount",
    "transaction_type": "type",
    "created_at": "created_at",
    "expires_at": "expires_at",
    "description": "description",
    "stripe_payment_intent_id": "payment_intent_id",
    "category": "category",
    "user_id": "user_id",
    "model": "model",
}
_SEVERAL = frozenset({Operator.EQUAL, Operator.IN, Operator.NOT})
_TYPES = frozenset(TransactionType)


class Condition(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An operator and its values: several for equality, `in` and `not`, else one."""

    operator: Operator = Operator.EQUAL
    value: list[msgspec.Raw]


def parse(conditions: Mapping[str, Condition]) -> list[Filter]:
    """Return the filters; raise ValidationError with the field and the reason."""
    if len(conditions) > FILTERS_MAX:
        raise fields.invalid(("body", "filters"), f"must hold at most {FILTERS_MAX} filters")
    return [_filter(name, condition) for name, condition in conditions.items()]


def _filter(name: str, condition: Condition) -> Filter:
    where = ("body", "filters", name[:100])
    several = condition.operator in _SEVERAL
    if not 1 <= len(condition.value) <= (VALUES_MAX if several else 1):
        wanted = f"1 to {VALUES_MAX} values" if several else "one value"
        raise fields.invalid((*where, "value"), f"{condition.operator or 'equality'}: {wanted}")
    metadata = name.removeprefix(METADATA_PREFIX) if name.startswith(METADATA_PREFIX) else None
    if metadata is not None:
        return _of_metadata(metadata, condition, where)
    if name not in FIELDS:
        known = f"{', '.join(FIELDS)} and {METADATA_PREFIX}… can be filtered"
        raise fields.invalid(where, f"unknown field; {known}")
    field = FIELDS[name]
    kind = COLUMNS[field][1]
    _check_operator(condition.operator, kind, where)
    if condition.operator is Operator.ISNULL:
        values: list[Value] = [_boolean(condition.value[0], where)]
    else:
        values = [_value(raw, kind, (*where, "value", i)) for i, raw in enumerate(condition.value)]
    if field == "type" and several and (unknown := [v for v in values if v not in _TYPES]):
        known = ", ".join(TransactionType)
        raise fields.invalid((*where, "value"), f"{unknown[0]!r} is none of {known}")
    return Filter(field, condition.operator, values, kind)


def _of_metadata(name: str, condition: Condition, where: tuple[str, ...]) -> Filter:
    if not name or rules.text_refusal("name", name, rules.KEY_LENGTH_MAX):
        raise fields.invalid(where, "must name a metadata field after metadata__")
    if name.startswith(OWN):  # no response shows it
        raise fields.invalid(where, f"names that begin with {OWN} are not the caller's")
    if condition.operator is Operator.ISNULL:
        value = _boolean(condition.value[0], where)
        return Filter(None, condition.operator, [value], Kind.TEXT, name)
    numbers = {_is_number(raw) for raw in condition.value}
    if len(numbers) > 1:
        raise fields.invalid((*where, "value"), "must be all numbers or all texts")
    kind = Kind.NUMBER if numbers.pop() else Kind.TEXT
    _check_operator(condition.operator, kind, where)
    values = [
        _value(raw, kind, (*where, "value", place)) for place, raw in enumerate(condition.value)
    ]
    return Filter(None, condition.operator, values, kind, name)


def _check_operator(operator: Operator, kind: Kind, where: tuple[str, ...]) -> None:
    if operator not in OPERATORS[kind]:
        known = ", ".join(o.value or '""' for o in Operator if o in OPERATORS[kind])
        raise fields.invalid((*where, "operator"), f"does not apply here; use one of {known}")


def _value(raw: msgspec.Raw, kind: Kind, where: tuple[str | int, ...]) -> Value:
    match kind:
        case Kind.NUMBER:
            number = fields.parse_number(raw, *where)
            if rules.decimal_refusal("value", number):
                raise fields.invalid(where, "must be a number up to 10^18 with at most 9 decimals")
            return number
        case Kind.MOMENT:
            return _moment(raw, where)
        case Kind.ID:
            parsed_id = parse_id(_text(raw, where))
            if parsed_id is None:
                raise fields.invalid(where, "must be an id")
            return parsed_id
        case Kind.TEXT:
            return _text(raw, where)


def _text(raw: msgspec.Raw, where: Sequence[str | int]) -> str:
    value: str | bool | None = _decoded(raw, str | bool)
    if isinstance(value, bool):  # in metadata: as PostgreSQL writes it
        return "true" if value else "false"
    if value is None:
        raise fields.invalid(tuple(where), "must be a text")
    if rules.text_refusal("value", value, TEXT_LENGTH_MAX):
        raise fields.invalid(tuple(where), f"at most {TEXT_LENGTH_MAX} characters, without NUL")
    return value


def _moment(raw: msgspec.Raw, where: tuple[str | int, ...]) -> datetime:
    time: datetime | None = _decoded(raw, datetime)
    if time is None or time.tzinfo is None or not rules.MOMENT_MIN <= time <= rules.MOMENT_MAX:
        raise fields.invalid(where, "must be a time such as 2031-01-31T09:30:00Z")
    return time


def _boolean(raw: msgspec.Raw, where: tuple[str, ...]) -> bool:
    value: bool | None = _decoded(raw, bool)
    if value is None:
        raise fields.invalid((*where, "value", 0), "must be true or false")
    return value


def _decoded(raw: msgspec.Raw, kind: Any) -> Any:
    """Decode a raw value; return None if it is not of this type.

    Decoding stops at the first mismatch: a list in place of a text fails at its first bracket.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _is_number(raw: msgspec.Raw) -> bool:
    return bytes(raw).strip()[:1] in b"-0123456789"
