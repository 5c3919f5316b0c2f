"""The last migration of this release, without Alembic, which is heavy."""

from __future__ import annotations

from pathlib import Path

VERSIONS = Path(__file__).parent / "versions"
NUMBER_LENGTH = 4
# By the names of their files, which begin with the number.
HEAD = max(file.name[:NUMBER_LENGTH] for file in VERSIONS.glob("[0-9]*.py"))
