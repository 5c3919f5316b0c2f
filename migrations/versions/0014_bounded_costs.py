"""The cost of a statement does not grow with history."""

from migrations.script import refuse_downgrade, run_sql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0014_bounded_costs.sql")


downgrade = refuse_downgrade
