"""What a sale is, in whose Stripe account, and what waits for whom."""

from migrations.script import refuse_downgrade, run_sql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0008_todays_stripe.sql")


downgrade = refuse_downgrade
