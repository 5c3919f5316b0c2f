"""Whose fault it is that a recharge waits."""

from migrations.script import run_sql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0009_whose_fault.sql")


def downgrade() -> None:
    """Refuse: a ledger is not taken back. Restore a backup instead."""
    raise NotImplementedError("restore a backup; the ledger is append-only")
