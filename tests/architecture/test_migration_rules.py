"""What a migration may do to a table that grows, while the product works on it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from migrations import online, runner, sequence
from migrations.online import Step

SQL = Path(runner.__file__).with_name("sql")
FIRST_UNDER_THE_RULES = "0013"
MIGRATIONS = sorted(
    file
    for file in SQL.glob("*.sql")
    if file.name >= FIRST_UNDER_THE_RULES and not file.name.endswith(".online.sql")
)
ONLINE = sorted(SQL.glob("*.online.sql"))
# These have a few rows, whatever the installation: a scan under a lock takes no time.
SMALL = {"api_keys", "webhook_endpoints", "event_breakers", "stripe_alerts", "alembic_version"}
RULES = {
    r"CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?\w+ ON (?P<table>\w+)": (
        "an index blocks writes while it is built: move it to NNNN_name.online.sql, as"
        " CREATE INDEX CONCURRENTLY IF NOT EXISTS"
    ),
    r"ALTER TABLE (?:ONLY )?(?P<table>\w+).* ADD (?:CONSTRAINT \w+ )?(?:CHECK|FOREIGN KEY)\b"
    r"(?!.* NOT VALID)": (
        "a constraint reads the whole table under its lock: add it NOT VALID, and VALIDATE"
        " CONSTRAINT in NNNN_name.online.sql"
    ),
    r"ALTER TABLE (?:ONLY )?(?P<table>\w+).* VALIDATE CONSTRAINT": (
        "a validation reads the whole table under the locks of its transaction: move it to"
        " NNNN_name.online.sql"
    ),
    r"ALTER TABLE (?:ONLY )?(?P<table>\w+).* ADD (?:CONSTRAINT \w+ )?"
    r"(?:UNIQUE|PRIMARY KEY|EXCLUDE)\b(?!.* USING INDEX)": (
        "a key builds its index under the lock: build it in NNNN_name.online.sql, and take it with"
        " USING INDEX in the next migration"
    ),
    r"ALTER TABLE (?:ONLY )?(?P<table>\w+).* ADD COLUMN [^,;]*(?:\bSTORED\b|\bIDENTITY\b|SERIAL\b|"
    r"(?:gen_random_uuid|clock_timestamp|random|nextval)\()": (
        "a generated column, or a volatile default, rewrites the table"
    ),
    r"ALTER TABLE (?:ONLY )?(?P<table>\w+).* ADD COLUMN [^,;]*\bREFERENCES\b": (
        "a foreign key locks the other table too: add it as a constraint that is NOT VALID"
    ),
    r"ALTER TABLE (?:ONLY )?(?P<table>\w+).* ALTER (?:COLUMN )?\w+ (?:SET DATA )?TYPE\b": (
        "another type rewrites the table"
    ),
    r"ALTER TABLE (?:ONLY )?(?P<table>\w+).* SET NOT NULL": (
        "it reads the whole table under its lock: add CHECK (x IS NOT NULL) NOT VALID instead"
    ),
    r"ALTER TABLE (?:ONLY )?(?P<table>\w+).* (?:RENAME|DROP COLUMN)\b": (
        "the last release still uses the old name"
    ),
    r"(?:UPDATE|DELETE FROM) (?:ONLY )?(?P<table>\w+)": (
        "changing many rows locks them until the end: let a worker do it in batches"
    ),
    r"(?:VACUUM FULL|CLUSTER|REINDEX|LOCK TABLE|TRUNCATE)(?: TABLE)? ?(?P<table>\w*)": (
        "it stops everybody who uses the table"
    ),
}
_CREATED = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)")
_FUNCTION = re.compile(r"\$(\w*)\$.*?\$\1\$", re.DOTALL)


def broken_rules(text: str) -> list[str]:
    """Return what a migration does that holds others up: each statement with the reason."""
    text = _FUNCTION.sub("''", re.sub(r"--[^\n]*", "", text))
    statements = [re.sub(r"\s+", " ", part).strip() for part in text.split(";")]
    harmless = SMALL | {name for found in statements for name in _CREATED.findall(found)}
    return [
        f"{statement[:100]}: {reason}"
        for statement in statements
        for rule, reason in RULES.items()
        if (found := re.match(rule, statement, re.IGNORECASE)) and found["table"] not in harmless
    ]


@pytest.mark.parametrize("file", MIGRATIONS, ids=lambda file: file.stem)
def test_a_migration_holds_nobody_up_for_longer_than_it_takes_to_change_the_catalog(
    file: Path,
) -> None:
    assert broken_rules(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", ONLINE, ids=lambda file: file.stem)
def test_an_online_file_has_known_statements_and_belongs_to_a_migration(file: Path) -> None:
    assert online.parse(file.read_text(encoding="utf-8"))
    assert file.with_name(file.name.replace(".online.sql", ".sql")).exists()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX x ON accounts (held)",
        "CREATE UNIQUE INDEX IF NOT EXISTS x ON holds (id)",
        "ALTER TABLE holds ADD CONSTRAINT x CHECK (amount > 1)",
        "ALTER TABLE holds ADD COLUMN a integer,\nADD CHECK (amount > 1)",
        "ALTER TABLE holds ADD CONSTRAINT x FOREIGN KEY (a) REFERENCES b",
        "ALTER TABLE holds VALIDATE CONSTRAINT x",
        "ALTER TABLE holds ADD CONSTRAINT x UNIQUE (a)",
        "ALTER TABLE holds ADD COLUMN x uuid DEFAULT gen_random_uuid()",
        "ALTER TABLE holds ADD COLUMN x bigint GENERATED ALWAYS AS IDENTITY",
        "ALTER TABLE holds ADD COLUMN x uuid REFERENCES organizations (id)",
        "ALTER TABLE holds ALTER COLUMN id TYPE text",
        "ALTER TABLE holds ALTER COLUMN description SET NOT NULL",
        "ALTER TABLE holds RENAME COLUMN id TO name",
        "ALTER TABLE holds DROP COLUMN id",
        "UPDATE holds SET amount = 1",
        "DELETE FROM holds",
        "LOCK TABLE holds",
    ],
)
def test_the_rules_see_what_they_forbid(statement: str) -> None:
    assert broken_rules(f"-- Why.\n{statement};")


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE x (id uuid PRIMARY KEY); CREATE INDEX y ON x (id); UPDATE x SET id = NULL;",
        "ALTER TABLE holds ADD COLUMN x timestamptz NOT NULL DEFAULT now();",
        "ALTER TABLE holds ADD CONSTRAINT x CHECK (amount > 1) NOT VALID;",
        "ALTER TABLE holds DROP CONSTRAINT x;",
        "ALTER TABLE holds ADD CONSTRAINT x UNIQUE USING INDEX y;",
        "ALTER TABLE api_keys ADD CONSTRAINT x CHECK (scope <> '');",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ UPDATE holds SET amount = 1; $$;",
    ],
)
def test_the_rules_let_the_rest_be(text: str) -> None:
    assert broken_rules(text) == []


def test_a_statement_of_an_online_file_is_read_whatever_its_lines() -> None:
    text = """
    -- Why.
    CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a ON holds (id)
    WHERE amount > 1;

    ALTER TABLE holds VALIDATE CONSTRAINT b;
    DROP INDEX CONCURRENTLY IF EXISTS a;
    ALTER TABLE holds DROP CONSTRAINT IF EXISTS c;
    """
    steps = online.parse(text)
    assert [(step.kind, step.name) for step in steps] == [
        ("index", "a"),
        ("constraint", "b"),
        ("no_index", "a"),
        ("no_constraint", "c"),
    ]
    assert online.last(steps) == [
        Step("no_index", "a", "DROP INDEX CONCURRENTLY IF EXISTS a"),
        steps[1],
        steps[3],
    ]
    assert "CONCURRENTLY" not in online.plain(text)


@pytest.mark.parametrize(
    "statement",
    ["CREATE INDEX a ON holds (id)", "UPDATE holds SET amount = 1", "CREATE INDEX CONCURRENTLY a"],
)
def test_an_online_file_with_any_other_statement_is_refused(statement: str) -> None:
    with pytest.raises(ValueError, match="no step of an online file"):
        online.parse(f"{statement};")


def test_migrations_that_change_what_functions_stand_on_commit_with_the_functions() -> None:
    migrations = sequence.pending(runner._config(), None)  # noqa: SLF001
    found = {m.revision for m in migrations if sequence.changes_functions(m)}
    assert "0010" in found
    assert "0012" not in found
    alone, with_functions = sequence.split(migrations)
    assert [m.revision for m in (*alone, *with_functions)] == [m.revision for m in migrations]
    assert sequence.changes_functions(with_functions[0])
