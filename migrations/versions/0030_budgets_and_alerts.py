"""Budgets and their counters, and several thresholds of a balance."""

from migrations.script import refuse_downgrade, run_sql

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0030_budgets_and_alerts.sql")


downgrade = refuse_downgrade
