"""Closes of months, and usage by dimension."""

from migrations.script import refuse_downgrade, run_sql

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0031_reports_and_closes.sql")


downgrade = refuse_downgrade
