"""Invoices, each credited to one organization."""

from migrations.script import refuse_downgrade, run_sql

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0035_invoices_bound_once.sql")


downgrade = refuse_downgrade
