"""A number for each organization, what its charges are made with, pages of recharge attempts."""

from migrations.script import refuse_downgrade, run_sql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0006_numbers_and_charged_methods.sql")


downgrade = refuse_downgrade
