"""A result of ledger_post says which posting it is of."""

from migrations.script import refuse_downgrade, run_sql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0002_posting_results_say_their_place.sql")


downgrade = refuse_downgrade
