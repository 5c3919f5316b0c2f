"""The last migration of this release, without Alembic, which is heavy."""

from __future__ import annotations

from pathlib import Path

from shared.errors import ConflictError

VERSIONS = Path(__file__).parent / "versions"
NUMBER_LENGTH = 4
# By the names of their files, which begin with the number.
HEAD = max(file.name[:NUMBER_LENGTH] for file in VERSIONS.glob("[0-9]*.py"))


def is_newer(current: str | None, head: str) -> bool:
    """Return whether a later release than that of `head` has migrated a database."""
    return current is not None and current > head


def refuse_newer(current: str | None, head: str) -> None:
    """Raise ConflictError where a later release has migrated the database."""
    if is_newer(current, head):
        raise ConflictError(
            f"The schema is at {current}, of a later release than this one ({head}):"
            " run prepaid migrate of that release."
        )
