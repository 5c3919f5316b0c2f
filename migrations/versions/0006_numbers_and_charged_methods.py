"""A number for each organization, what its charges are made with, pages of recharge attempts."""

from migrations.script import run_sql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0006_numbers_and_charged_methods.sql")


def downgrade() -> None:
    """Refuse: a ledger is not taken back. Restore a backup instead."""
    raise NotImplementedError("restore a backup; the ledger is append-only")
