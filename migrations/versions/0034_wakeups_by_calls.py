"""Closes of months, and usage by dimension."""

from migrations.script import refuse_downgrade, run_sql

revision = "0034"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0034_wakeups_by_calls.sql")


downgrade = refuse_downgrade
