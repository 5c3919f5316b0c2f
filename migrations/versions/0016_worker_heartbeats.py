"""Workers say that they run."""

from migrations.script import refuse_downgrade, run_sql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0016_worker_heartbeats.sql")


downgrade = refuse_downgrade
