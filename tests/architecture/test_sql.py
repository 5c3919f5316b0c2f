"""The SQL of every room, checked against the schema and the rules for SQL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from shared.db.pool import connect
from shared.db.queries import Queries, is_queries
from tests.fixtures.servers import process_url

if TYPE_CHECKING:
    from shared.db.pool import Connection

ROOT = Path(__file__).parents[2]
ROOMS = ("api", "cli", "console", "migrations", "sandbox", "shared", "webhooks", "worker")
SQL_FILES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.sql"))
QUERY_FILES = [file for file in SQL_FILES if is_queries(file)]
_COMMENT = re.compile(r"--[^\n]*")
_LEDGER_CHANGE = re.compile(
    r"\b(update|delete\s+from|truncate(\s+table)?|merge\s+into)\s+(only\s+)?credit_transactions\b",
    re.IGNORECASE,
)
# What would outlive its transaction: the next user of the connection would have it too.
_SESSION_CHANGE = re.compile(
    r"\A\s*(set\s+(?!local\b)|reset\b|listen\b|prepare\b|declare\b)"
    r"|\bpg_(try_)?advisory_lock|\bset_config\s*\([^()]*,\s*false\s*\)"
    r"|\bwith\s+hold\b|\bcreate\s+(local\s+|global\s+)?temp",
    re.IGNORECASE,
)


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


def test_there_is_sql_to_hold_against_the_rules() -> None:
    files = set(map(relative, QUERY_FILES))
    assert {"shared/inbox/queries.sql", "shared/ledger/listing.sql"} <= files
    assert {file for file in map(relative, SQL_FILES) if file.endswith("/queries.sql")} <= files


async def test_every_statement_can_be_prepared_on_the_migrated_database(
    connection: Connection,
) -> None:
    refused = []
    for file in QUERY_FILES:
        for name, statement in Queries(file).items():
            try:
                await connection.prepare(statement)
            except asyncpg.PostgresError as error:
                refused.append(f"{relative(file)}, statement {name}: {error}\n{statement}")
    assert refused == []


# `prepaid privacy erase` executes it only under a role that may change the audit log.
OF_THE_OWNER = {"erase_audit_entries"}


async def test_the_processes_may_execute_every_statement(database_url: str) -> None:
    """Their role has the privileges of each: locking a row needs more than reading it."""
    connection = await connect(process_url(database_url), application_name="test")
    refused = []
    for file in QUERY_FILES:
        for name, statement in Queries(file).items():
            try:
                await connection.execute(f"EXPLAIN (GENERIC_PLAN) {statement}")
            except asyncpg.InsufficientPrivilegeError as error:
                if name not in OF_THE_OWNER:
                    refused.append(f"{relative(file)}, statement {name}: {error}")
    await connection.close()
    assert refused == []


@pytest.mark.parametrize("file", QUERY_FILES, ids=relative)
def test_every_statement_begins_with_a_sentence_that_says_what_it_is_for(file: Path) -> None:
    firsts = {name: statement.splitlines()[0] for name, statement in Queries(file).items()}
    assert {name: first for name, first in firsts.items() if not first.startswith("-- ")} == {}


@pytest.mark.parametrize("file", QUERY_FILES, ids=relative)
def test_every_statement_is_used_by_its_own_room(file: Path) -> None:
    code = "".join(module.read_text(encoding="utf-8") for module in file.parent.glob("*.py"))
    used = set(re.findall(r"\b(?:QUERIES|_CHECK_\w+)\.(\w+)", code))
    assert {name for name, _ in Queries(file).items()} - used == set(), (
        "nothing beside them uses them"
    )


@pytest.mark.parametrize("file", QUERY_FILES, ids=relative)
def test_every_query_that_a_room_names_is_in_its_file(file: Path) -> None:
    code = "".join(module.read_text(encoding="utf-8") for module in file.parent.glob("*.py"))
    named = set(re.findall(r"\bQUERIES\.(\w+)", code)) - {"items", "path"}
    siblings = filter(is_queries, file.parent.glob("*.sql"))
    assert named <= {name for sibling in siblings for name, _ in Queries(sibling).items()}


@pytest.mark.parametrize("file", QUERY_FILES, ids=relative)
def test_a_name_stands_once_in_its_file(file: Path) -> None:
    names = re.findall(r"^-- name: (\w+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("file", SQL_FILES, ids=relative)
def test_no_sql_changes_or_deletes_a_row_of_the_ledger(file: Path) -> None:
    sql = _COMMENT.sub("", file.read_text(encoding="utf-8"))
    assert _LEDGER_CHANGE.findall(sql) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE credit_transactions SET amount = 1",
        "delete from only credit_transactions",
        "TRUNCATE TABLE credit_transactions",
    ],
)
def test_the_rule_about_the_ledger_sees_what_it_forbids(statement: str) -> None:
    assert _LEDGER_CHANGE.search(statement)


@pytest.mark.parametrize("file", QUERY_FILES, ids=relative)
def test_no_statement_leaves_anything_in_its_session(file: Path) -> None:
    statements = {name: _COMMENT.sub("", text) for name, text in Queries(file).items()}
    assert [name for name, text in statements.items() if _SESSION_CHANGE.search(text)] == []


@pytest.mark.parametrize(
    "sql", [file.read_text(encoding="utf-8") for file in SQL_FILES if file not in QUERY_FILES]
)
def test_no_function_leaves_anything_in_its_session(sql: str) -> None:
    assert not _SESSION_CHANGE.search(_COMMENT.sub("", sql))


@pytest.mark.parametrize(
    "statement",
    [
        "SET search_path = other",
        "set session time zone 'CET'",
        "LISTEN rings",
        "SELECT pg_advisory_lock(1)",
        "SELECT set_config('synchronous_commit', 'off', FALSE)",
        "CREATE TEMPORARY TABLE seen (id uuid)",
    ],
)
def test_the_rule_about_sessions_sees_what_it_forbids(statement: str) -> None:
    assert _SESSION_CHANGE.search(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SET LOCAL lock_timeout = '1s'",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT set_config('synchronous_commit', 'off', TRUE)",
        "UPDATE accounts SET balance = 0",
    ],
)
def test_the_rule_about_sessions_lets_the_rest_be(statement: str) -> None:
    assert not _SESSION_CHANGE.search(statement)


def test_sql_is_spoken_in_sql_files_and_stores_alone() -> None:
    """Queries are loaded beside a store or a service of their own room; no other SQL in shared."""
    speaking = re.compile(r'"(?:SELECT|INSERT|UPDATE|DELETE|WITH)\s')
    found = [
        relative(module)
        for module in (ROOT / "shared").rglob("*.py")
        if speaking.search(module.read_text(encoding="utf-8"))
    ]
    assert found == []
