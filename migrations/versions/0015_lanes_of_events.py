"""Events wait in lanes, and one that kills its workers is found out."""

from migrations.script import refuse_downgrade, run_sql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0015_lanes_of_events.sql")


downgrade = refuse_downgrade
