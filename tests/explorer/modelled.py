"""The statements of the product that a model has, by their text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from shared.db.queries import Queries
from tests.explorer.recharge_tables import ORGANIZATION, Tables
from tests.explorer.stepping import Port, Row, Rows

Result = tuple[Tables, Rows]
Statement = Callable[[Port[Tables], Tables, tuple[Any, ...]], Result]


class Modelled:
    """A model of statements. `tokens` has the place of the new lease token in those that lease."""

    def __init__(
        self, statements: Mapping[Queries, Mapping[str, Statement]], tokens: Mapping[str, int]
    ) -> None:
        self._tokens = tokens
        self._by_sql = {
            getattr(queries, name): (name, function)
            for queries, functions in statements.items()
            for name, function in functions.items()
        }

    def execute(
        self, port: Port[Tables], tables: Tables, sql: str, args: tuple[Any, ...]
    ) -> tuple[Tables, Rows]:
        return self._by_sql[sql][1](port, tables, args)

    def name(self, sql: str) -> str:
        """Return the name of a statement; raise LookupError for one without a model."""
        if sql not in self._by_sql:
            raise LookupError(f"The explorer has no model of this statement:\n{sql}")
        return self._by_sql[sql][0]

    def token(self, sql: str, args: tuple[Any, ...]) -> UUID | None:
        place = self._tokens.get(sql)
        return None if place is None else args[place]


def nothing(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    """Model a lock, a message or an audit entry: no row of a model changes."""
    return tables, ()


def no(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    return tables, (Row(value=False),)


def the_organization(port: Port[Tables], tables: Tables, args: tuple[Any, ...]) -> Result:
    return tables, (Row(organization_id=ORGANIZATION),)
