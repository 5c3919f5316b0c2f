"""Indexes for the retention of delivered messages and of attempt details."""

from migrations.script import refuse_downgrade, run_sql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0024_retention.sql")


downgrade = refuse_downgrade
