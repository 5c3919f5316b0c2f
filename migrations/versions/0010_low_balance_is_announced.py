"""Whether the app was told of a low balance, and what a refusal says."""

from migrations.script import refuse_downgrade, run_sql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0010_low_balance_is_announced.sql")


downgrade = refuse_downgrade
