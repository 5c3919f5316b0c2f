"""Suspensions that only a person ends outlast being turned off."""

from migrations.script import refuse_downgrade, run_sql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0007_suspensions_that_outlast_off.sql")


downgrade = refuse_downgrade
