"""Samples of a few metrics each minute, and the results of invariants."""

from migrations.script import refuse_downgrade, run_sql

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0025_samples_and_invariants.sql")


downgrade = refuse_downgrade
