"""Suspensions that only a person ends outlast being turned off."""

from migrations.script import run_sql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0007_suspensions_that_outlast_off.sql")


def downgrade() -> None:
    """Refuse: a ledger is not taken back. Restore a backup instead."""
    raise NotImplementedError("restore a backup; the ledger is append-only")
