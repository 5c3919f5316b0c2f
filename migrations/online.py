"""Steps that run outside a transaction while the product works: concurrent indexes, validations.

They are in `sql/NNNN_name.online.sql`, next to their migration. Whether a step is
done is read from the catalog and recorded nowhere else, so that it is done again wherever it is
not: after a kill, or after an index was dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

_COMMENT = re.compile(r"--[^\n]*")
_SPACE = re.compile(r"\s+")
_FORMS = {
    "index": re.compile(
        r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS (?P<name>\w+) ON (?P<table>\w+) "
    ),
    "no_index": re.compile(r"DROP INDEX CONCURRENTLY IF EXISTS (?P<name>\w+)$"),
    "no_constraint": re.compile(
        r"ALTER TABLE (?P<table>\w+) DROP CONSTRAINT IF EXISTS (?P<name>\w+)$"
    ),
    "constraint": re.compile(r"ALTER TABLE (?P<table>\w+) VALIDATE CONSTRAINT (?P<name>\w+)$"),
}
_INDEXES = """
SELECT
    c.relname,
    i.indisvalid AND i.indisready AS valid
FROM pg_class AS c
INNER JOIN pg_index AS i ON c.oid = i.indexrelid
WHERE c.relname = any($1::text []) AND pg_table_is_visible(c.oid)
"""
_CONSTRAINTS = """
SELECT
    o.conname AS relname,
    o.convalidated AS valid
FROM pg_constraint AS o
INNER JOIN pg_class AS c ON o.conrelid = c.oid
WHERE o.conname = any($1::text []) AND pg_table_is_visible(c.oid)
"""


class State(Enum):
    """How far a step is."""

    DONE = "done"
    MISSING = "missing"
    INVALID = "invalid"


@dataclass(frozen=True)
class Step:
    """One statement, and its object: an index or constraint to create, validate or drop."""

    kind: str
    name: str
    statement: str


def parse(text: str) -> list[Step]:
    """Return the steps of a file; raise ValueError where a statement has none of the forms."""
    statements = (_SPACE.sub(" ", part).strip() for part in _COMMENT.sub("", text).split(";"))
    return [_step(statement) for statement in statements if statement]


def plain(text: str) -> str:
    """Return a file for a new database, which has no traffic: as statements of a transaction."""
    return text.replace(" CONCURRENTLY", "")


def last(steps: Iterable[Step]) -> list[Step]:
    """Return the last step about each index or constraint: what an older one made is replaced."""
    return list({step.name: step for step in steps}.values())


async def states(connection: Connection, steps: Iterable[Step]) -> dict[str, State]:
    """Return how far each step is, by its name, as the catalog has it."""
    steps = list(steps)
    valid = {
        row["relname"]: row["valid"]
        for query in (_INDEXES, _CONSTRAINTS)
        for row in await connection.fetch(query, [step.name for step in steps])
    }
    return {step.name: _state(step, valid=valid.get(step.name)) for step in steps}


async def run(connection: Connection, step: Step, report: Callable[[str], None]) -> None:
    """Do a step if it is not done. What a build that was killed has left is dropped first."""
    state = (await states(connection, [step]))[step.name]
    if state is State.DONE:
        return
    if step.kind == "index" and state is State.INVALID:
        report(f"dropping the index {step.name}, whose build did not end")
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {step.name}")
    report(step.statement)
    await connection.execute(step.statement)


def _step(statement: str) -> Step:
    for kind, form in _FORMS.items():
        if match := form.match(statement):
            return Step(kind, match["name"], statement)
    raise ValueError(f"no step of an online file: {statement}")


def _state(step: Step, *, valid: bool | None) -> State:
    if step.kind in ("no_index", "no_constraint"):
        return State.DONE if valid is None else State.INVALID
    if valid is None:
        return State.MISSING
    return State.DONE if valid else State.INVALID
