"""The migrations of this release in order: which a database lacks, and how they commit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.script import ScriptDirectory

from migrations import online

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import Script

# What the functions of the last release would fail on: it commits together with those of this one.
_CHANGES_FUNCTIONS = re.compile(
    r"\bDROP\s+(?:FUNCTION|AGGREGATE|TYPE)\b|\bALTER\s+TYPE\b|\bALTER\s+TABLE\s+credit_transactions\b",
    re.IGNORECASE,
)


def pending(config: Config, current: str | None) -> list[Script]:
    """Return the migrations that a database at `current` lacks, in their order."""
    scripts = ScriptDirectory.from_config(config)
    return [*scripts.iterate_revisions("head", current or "base")][::-1]


def split(scripts: Sequence[Script]) -> tuple[Sequence[Script], Sequence[Script]]:
    """Return the migrations that commit alone, and those that commit with the functions."""
    first = next(
        (place for place, script in enumerate(scripts) if changes_functions(script)), len(scripts)
    )
    return scripts[:first], scripts[first:]


def changes_functions(migration: Script) -> bool:
    """Say whether the functions of the last release would fail after this migration."""
    texts = [file.read_text(encoding="utf-8") for file in _files(migration) if file.exists()]
    return any(_CHANGES_FUNCTIONS.search(re.sub(r"--[^\n]*", "", text)) for text in texts)


def online_steps(config: Config, current: str | None) -> list[online.Step]:
    """Return the online steps of all migrations up to `current`, in their order."""
    if current is None:
        return []
    scripts = [*ScriptDirectory.from_config(config).iterate_revisions(current, "base")][::-1]
    files = [_files(script)[-1] for script in scripts]
    texts = [file.read_text(encoding="utf-8") for file in files if file.exists()]
    return online.last(step for text in texts for step in online.parse(text))


def _files(migration: Script) -> tuple[Path, Path, Path]:
    """Return where a migration's Python, its SQL and its online steps are, if it has them."""
    module = Path(migration.path)
    sql = module.parent.parent / "sql"
    return module, sql / f"{module.stem}.sql", sql / f"{module.stem}.online.sql"
