"""The answers that the billing API gives once, and an index for filters by type."""

from migrations.script import refuse_downgrade, run_sql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0005_billing_api.sql")


downgrade = refuse_downgrade
