"""Runs the plain SQL file of a migration, online or as a printed script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import context, op
from alembic.util import CommandError

from migrations import online

SQL = Path(__file__).with_name("sql")


def run_sql(name: str) -> None:
    """Run a whole file of statements inside the migration's transaction.

    A printed script is for a new database: its online steps stand in the same transaction there.
    """
    script = (SQL / name).read_text(encoding="utf-8")
    if context.is_offline_mode():
        context.get_context().impl.static_output(script)
        steps = (SQL / name).with_suffix(".online.sql")
        if steps.exists():
            context.get_context().impl.static_output(online.plain(steps.read_text("utf-8")))
        return
    # asyncpg prepares what goes through SQLAlchemy, and a prepared statement is one statement only:
    # so the file goes to the driver itself, on the same connection and in the same transaction.
    adapted: Any = op.get_bind().connection.dbapi_connection
    adapted.run_async(lambda connection: connection.execute(script))


def refuse_downgrade() -> None:
    """Refuse what every migration refuses: a ledger is not taken back."""
    raise CommandError("The ledger is append-only: restore a backup instead of downgrading.")
