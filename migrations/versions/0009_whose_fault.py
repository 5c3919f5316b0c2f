"""Whose fault it is that a recharge waits."""

from migrations.script import refuse_downgrade, run_sql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0009_whose_fault.sql")


downgrade = refuse_downgrade
