"""Fields, partial captures and extension of holds."""

from migrations.script import refuse_downgrade, run_sql

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0029_holds_for_streams.sql")


downgrade = refuse_downgrade
