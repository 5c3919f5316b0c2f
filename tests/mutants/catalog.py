"""The mutants: bugs that real systems had, each as a small edit of this code.

A mutant replaces a text that stands exactly once in a file. Where the text is gone or stands twice,
the mutant is stale, and a test of the suite fails.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent


class StaleMutantError(Exception):
    """The text that a mutant replaces does not stand exactly once in its file."""


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text of a file, and what the mutant has in its place."""

    file: str
    old: str
    new: str


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bug: what it breaks, where it was seen, and the tests of which at least one must fail."""

    name: str
    breaks: str
    seen: str
    tests: tuple[str, ...]
    changes: tuple[Change, ...]

    @property
    def changes_schema(self) -> bool:
        """Whether it changes what a migration creates: tables, indexes or functions."""
        files = [change.file for change in self.changes]
        return any(
            file.startswith(("migrations/", "shared/ledger/sql/")) or file.endswith("functions.sql")
            for file in files
        )


class _File(msgspec.Struct, forbid_unknown_fields=True):
    mutants: tuple[Mutant, ...]


def load() -> list[Mutant]:
    """Return all mutants, in the order of their files; raise ValueError for a repeated name."""
    found: list[Mutant] = []
    for path in sorted(FOLDER.glob("*.toml")):
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        found += msgspec.convert(content, _File).mutants
    repeated = [name for name, count in Counter(m.name for m in found).items() if count > 1]
    if repeated:
        raise ValueError(f"more than one mutant is named {', '.join(repeated)}")
    return found


def select(names: Sequence[str]) -> list[Mutant]:
    """Return the mutants whose names begin with one of these, in that order; all without names."""
    found = load()
    if not names:
        return found
    selected: dict[str, Mutant] = {}
    for name in names:
        named = {mutant.name: mutant for mutant in found if mutant.name.startswith(name)}
        if not named:
            raise ValueError(f"no mutant has a name that begins with {name}")
        selected |= named
    return [*selected.values()]


def mutated(mutant: Mutant, root: Path = ROOT) -> dict[Path, str]:
    """Return the files of a mutant with their changed text; raise StaleMutantError."""
    texts: dict[Path, str] = {}
    for change in mutant.changes:
        path = root / change.file
        text = texts.get(path) or path.read_text(encoding="utf-8")
        count = text.count(change.old)
        if count != 1 or change.old == change.new:
            raise StaleMutantError(
                f"{mutant.name}: its text stands {count} times in {change.file}: {change.old!r}"
            )
        texts[path] = text.replace(change.old, change.new)
    return texts
