"""The ledger can be distributed by organization: read from the catalog, and from its functions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from migrations.citus.distribution import DISTRIBUTED
from migrations.runner import FUNCTION_FILES, LEDGER

if TYPE_CHECKING:
    from shared.db.pool import Connection

ROOT = Path(__file__).parents[2]
# Of the coordinator: nothing joins them with the ledger inside a statement of a shard.
LOCAL_BY_ORGANIZATION = {"ledger_checkpoints", "price_assignments", "price_discounts"}
VOLATILE = re.compile(r"clock_timestamp\(|gen_random_uuid\(|random\(|uuidv7\(")

KEYS = """
SELECT c.relname AS name, a.attname AS first
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = $1::regclass AND i.indisunique
"""
FOREIGN_KEYS = """
SELECT f.conname AS name, a.attname AS first
FROM pg_constraint AS f
JOIN pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = f.conkey[1]
WHERE f.conrelid = $1::regclass AND f.contype = 'f'
"""


@pytest.mark.parametrize("table", DISTRIBUTED)
async def test_keys_and_foreign_keys_begin_with_the_organization(
    connection: Connection, table: str
) -> None:
    keys = await connection.fetch(KEYS, table)
    foreign = await connection.fetch(FOREIGN_KEYS, table)
    assert keys
    assert {row["name"]: row["first"] for row in (*keys, *foreign)} == {
        row["name"]: "organization_id" for row in (*keys, *foreign)
    }


def function_text() -> str:
    """Return the SQL functions of the ledger, in the order in which they are created."""
    files = [file for file in FUNCTION_FILES if file.is_relative_to(LEDGER)]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def functions() -> dict[str, str]:
    """Return the body of each function of the ledger by its name, without comments."""
    text = function_text()
    text = re.sub(r"--.*", "", text).split("CREATE OR REPLACE VIEW")[0]
    parts = re.split(r"CREATE OR REPLACE FUNCTION (\w+)", text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_file_of_functions_is_applied() -> None:
    files = sorted({*(ROOT / "shared").rglob("functions.sql"), *LEDGER.glob("*.sql")})
    assert sorted(FUNCTION_FILES) == files


def test_nothing_volatile_stands_in_a_statement_that_writes() -> None:
    for name, body in functions().items():
        for statement in re.findall(r"\b(?:UPDATE|INSERT INTO)\b[^;]*;", body):
            assert not VOLATILE.search(statement), f"{name}: {statement}"


def test_every_statement_on_a_table_of_the_ledger_names_the_organization() -> None:
    tables = "|".join(DISTRIBUTED)
    for name, body in functions().items():
        for statement in body.split(";"):
            if re.search(rf"\b(?:FROM|UPDATE|INTO) (?:{tables})\b", statement):
                assert "organization_id" in statement or "_rows" in statement, (
                    f"{name}: {statement}"
                )


def test_nobody_decides_by_the_name_of_a_constraint() -> None:
    rooms = ("api", "cli", "console", "shared", "webhooks", "worker")
    files = [file for room in rooms for file in (ROOT / room).rglob("*.py")]
    assert files
    assert [f for f in files if "constraint_name" in f.read_text(encoding="utf-8")] == []


async def test_no_trigger_on_a_distributed_table_notifies_or_writes_elsewhere(
    connection: Connection,
) -> None:
    """Nobody hears a NOTIFY of a shard, and with a commit in two phases it fails."""
    rows = await connection.fetch(
        "SELECT f.proname AS name, f.prosrc AS body FROM pg_trigger AS g"
        " JOIN pg_proc AS f ON f.oid = g.tgfoid"
        " WHERE NOT g.tgisinternal AND g.tgrelid = any($1::text[]::regclass[])",
        list(DISTRIBUTED),
    )
    assert {row["name"] for row in rows} == {"refuse_ledger_change", "follow_alert_thresholds"}
    forbidden = re.compile(r"\bNOTIFY\b|pg_notify|\bINSERT\b|\bUPDATE \w|\bDELETE\b", re.IGNORECASE)
    assert [row["name"] for row in rows if forbidden.search(row["body"])] == []


async def test_every_table_with_rows_of_the_ledger_is_distributed(connection: Connection) -> None:
    """A table whose key begins with the organization is local on purpose, or is distributed."""
    rows = await connection.fetch(
        "SELECT c.relname AS name FROM pg_index AS i"
        " JOIN pg_class AS c ON c.oid = i.indrelid"
        " JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
        " WHERE i.indisprimary AND a.attname = 'organization_id'"
        " AND c.relnamespace = 'public'::regnamespace"
    )
    assert {row["name"] for row in rows} - set(DISTRIBUTED) == LOCAL_BY_ORGANIZATION


async def test_no_unique_index_of_the_ledger_begins_with_an_expression(
    connection: Connection,
) -> None:
    """Such an index has no first column, and the rule on keys would not see it."""
    names = await connection.fetch(
        "SELECT indexrelid::regclass::text AS name FROM pg_index"
        " WHERE indrelid = any($1::text[]::regclass[]) AND indisunique AND indkey[0] = 0",
        list(DISTRIBUTED),
    )
    assert names == []


async def test_no_other_table_than_those_that_are_distributed_refers_to_the_ledger(
    connection: Connection,
) -> None:
    """A foreign key from a local table to a distributed one cannot be made."""
    rows = await connection.fetch(
        "SELECT conrelid::regclass::text AS name FROM pg_constraint"
        " WHERE contype = 'f' AND confrelid = any($1::text[]::regclass[])",
        list(DISTRIBUTED),
    )
    assert {row["name"] for row in rows} <= set(DISTRIBUTED)


def test_the_rules_see_the_functions() -> None:
    """Every function is read to its end, and what it does is found."""
    found = functions()
    text = function_text()
    assert set(re.findall(r"^CREATE OR REPLACE FUNCTION (\w+)", text, re.MULTILINE)) == set(found)
    assert all(body.count("$$") == 2 for body in found.values())
    writing = {name for name, body in found.items() if re.search(r"\b(UPDATE|INSERT INTO)\b", body)}
    assert {"ledger_save", "ledger_burn", "ledger_open_hold", "ledger_end_hold"} <= writing


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts SET updated_at = clock_timestamp() WHERE organization_id = $1",
        "INSERT INTO holds VALUES ($1, gen_random_uuid())",
        "SET a = random()",
    ],
)
def test_the_rule_on_what_is_volatile_sees_what_it_forbids(statement: str) -> None:
    assert VOLATILE.search(statement)
