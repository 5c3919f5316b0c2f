"""Filters of a list of transactions, as SQL conditions. Every value is a parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

Value = UUID | Decimal | datetime | str | bool


class Operator(StrEnum):
    """How a field is compared. The names are those that clients send; equality is the empty one."""

    EQUAL = ""
    IEXACT = "iexact"
    LT = "lt"
    LTE = "lte"
    GT = "gt"
    GTE = "gte"
    CONTAINS = "contains"
    ICONTAINS = "icontains"
    STARTSWITH = "startswith"
    ENDSWITH = "endswith"
    IN = "in"
    ISNULL = "isnull"
    NOT = "not"


class Kind(StrEnum):
    """What a field holds: the PostgreSQL type that it is compared as."""

    ID = "uuid"
    NUMBER = "numeric"
    MOMENT = "timestamptz"
    TEXT = "text"


_ANY = frozenset({Operator.EQUAL, Operator.IN, Operator.NOT})
_ORDER = frozenset({Operator.LT, Operator.LTE, Operator.GT, Operator.GTE})
_WORDS = frozenset({
    Operator.IEXACT,
    Operator.CONTAINS,
    Operator.ICONTAINS,
    Operator.STARTSWITH,
    Operator.ENDSWITH,
})  # fmt: skip
OPERATORS = {
    Kind.ID: _ANY | {Operator.ISNULL},
    Kind.NUMBER: _ANY | _ORDER | {Operator.ISNULL},
    Kind.MOMENT: _ANY | _ORDER | {Operator.ISNULL},
    Kind.TEXT: _ANY | _WORDS | {Operator.ISNULL},
}

# The fields of a list: the column in its statements (aliases t, o and g) and the kind.
COLUMNS = {
    "id": ("t.id", Kind.ID),
    "organization_number": ("o.number", Kind.NUMBER),
    "organization_id": ("t.organization_id", Kind.ID),
    "amount": ("t.amount", Kind.NUMBER),
    "type": ("t.type", Kind.TEXT),
    "created_at": ("t.created_at", Kind.MOMENT),
    "expires_at": ("g.expires_at", Kind.MOMENT),
    "description": ("t.description", Kind.TEXT),
    "payment_intent_id": ("t.payment_intent_id", Kind.TEXT),
    "category": ("t.category", Kind.TEXT),
    "user_id": ("t.user_id", Kind.TEXT),
    "model": ("(ledger_dimension('model', t.user_id, t.category, t.metadata))[1]", Kind.TEXT),
}

_FORMS = {
    Operator.EQUAL: "{field} = any({value}::{kind} [])",
    Operator.IN: "{field} = any({value}::{kind} [])",
    Operator.NOT: "({field} = any({value}::{kind} [])) IS NOT TRUE",
    Operator.LT: "{field} < {value}::{kind}",
    Operator.LTE: "{field} <= {value}::{kind}",
    Operator.GT: "{field} > {value}::{kind}",
    Operator.GTE: "{field} >= {value}::{kind}",
    Operator.ISNULL: "({field} IS NULL) = {value}::boolean",
    Operator.IEXACT: "lower({field}) = lower({value}::text)",
    Operator.CONTAINS: "strpos({field}, {value}::text) > 0",
    Operator.ICONTAINS: "strpos(lower({field}), lower({value}::text)) > 0",
    Operator.STARTSWITH: "starts_with({field}, {value}::text)",
    Operator.ENDSWITH: "right({field}, length({value}::text)) = {value}::text",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """A field, an operator and the values to compare with.

    `field` is one of COLUMNS, or None for the metadata called `name`. Equality, `in` and `not` take
    any number of values, the others one. All values are of `kind`.
    """

    field: str | None
    operator: Operator
    values: Sequence[Value]
    kind: Kind
    name: str | None = None


def conditions(filters: Sequence[Filter], *, parameters_before: int) -> tuple[str, list[object]]:
    """Return a WHERE condition and its parameters, numbered after `parameters_before` others."""
    terms: list[str] = []
    parameters: list[object] = []

    def parameter(value: object) -> str:
        parameters.append(value)
        return f"${parameters_before + len(parameters)}"

    for condition in filters:
        field = COLUMNS[condition.field][0] if condition.field is not None else ""
        if condition.field is None:
            field = _METADATA[condition.kind].format(name=parameter(condition.name))
        several = condition.operator in _ANY
        value = parameter(list(condition.values) if several else condition.values[0])
        terms.append(
            _FORMS[condition.operator].format(field=field, value=value, kind=condition.kind)
        )
    return " AND ".join(terms) or "TRUE", parameters


# Metadata: a JSON number is compared as a number; any other value does not match.
_METADATA = {
    Kind.TEXT: "(t.metadata ->> {name}::text)",
    Kind.NUMBER: (
        "(CASE WHEN jsonb_typeof(t.metadata -> {name}::text) = 'number'"
        " THEN (t.metadata ->> {name}::text)::numeric END)"
    ),
}
