"""The answers that the billing API gives once, and an index for filters by type."""

from migrations.script import run_sql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0005_billing_api.sql")


def downgrade() -> None:
    """Refuse: a ledger is not taken back. Restore a backup instead."""
    raise NotImplementedError("restore a backup; the ledger is append-only")
