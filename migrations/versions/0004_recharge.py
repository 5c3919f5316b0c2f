"""Auto-recharge: rules, attempts, cards; subscriptions and disputes."""

from migrations.script import refuse_downgrade, run_sql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0004_recharge.sql")


downgrade = refuse_downgrade
