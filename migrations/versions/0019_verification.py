"""Verification has checkpoints, and grants a hash of their terms."""

from migrations.script import refuse_downgrade, run_sql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0019_verification.sql")


downgrade = refuse_downgrade
