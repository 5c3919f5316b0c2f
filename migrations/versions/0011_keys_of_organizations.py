"""Idempotency keys belong to the organization that their request is about."""

from migrations.script import refuse_downgrade, run_sql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0011_keys_of_organizations.sql")


downgrade = refuse_downgrade
