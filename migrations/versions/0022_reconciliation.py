"""Runs and findings of reconciliation."""

from migrations.script import refuse_downgrade, run_sql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0022_reconciliation.sql")


downgrade = refuse_downgrade
