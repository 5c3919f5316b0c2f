"""Named SQL: each room has its statements in a `queries.sql`, or in a file for each concern.

A statement begins with `-- name: word`, then a comment that says what it is for.
"""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


class Queries:
    """The statements of one file, as attributes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        parts = _NAME.split(path.read_text(encoding="utf-8"))
        self._statements = {
            name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)
        }

    def __getattr__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"{self.path} has no statement named {name}") from None

    def items(self) -> list[tuple[str, str]]:
        """Return (name, statement) in the order of the file."""
        return list(self._statements.items())


def is_queries(file: Path) -> bool:
    """Return whether a file has named statements, not functions or migrations."""
    return _NAME.match(file.read_text(encoding="utf-8")) is not None


def beside(module_file: str, name: str = "queries.sql") -> Queries:
    """Load a file of statements from the folder of a module: `beside(__file__)`."""
    return Queries(Path(module_file).with_name(name))
