"""What a database lacks of this release's schema, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migrations.runner import MigrationStatus  # Alembic is heavy

NEWER = "the schema is at {current}, of a later release than this one ({head})"


def differences(found: MigrationStatus) -> list[str]:
    """Return a phrase for each difference; none where the schema is up to date."""
    if found["newer"]:
        return [NEWER.format(**found)]
    lines = []
    if found["current"] != found["head"]:
        lines.append(f"the schema is at {found['current']}, this release needs {found['head']}")
    elif not found["functionsCurrent"]:
        lines.append("the SQL functions are not those of this release")
    lines += [f"missing: {name}" for name in found["indexesMissing"]]
    lines += [f"not finished: {name}" for name in found["indexesInvalid"]]
    return lines
