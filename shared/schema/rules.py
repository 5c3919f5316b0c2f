"""When a process can work with the schema of its database."""

from __future__ import annotations


def problem(current: str | None, needed: str) -> str | None:
    """Return why a release that needs one migration cannot work at another; None where it can.

    Numbers of migrations have the same length. A later one adds, so that an older release goes on.
    """
    if current is None:
        return f"the database has no schema, and this release needs {needed}: run prepaid migrate"
    if current < needed:
        return f"the schema is at {current}, this release needs {needed}: run prepaid migrate"
    return None
