"""The index of the open disputes of one organization."""

from migrations.script import refuse_downgrade, run_sql

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0036_open_disputes.sql")


downgrade = refuse_downgrade
