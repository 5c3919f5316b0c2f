"""Replays are stored with their progress; a discard keeps the error."""

from migrations.script import refuse_downgrade, run_sql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0021_replays.sql")


downgrade = refuse_downgrade
