"""Burns across many grants, and clocks, have bounded costs."""

from migrations.script import refuse_downgrade, run_sql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0020_burns_and_clocks.sql")


downgrade = refuse_downgrade
