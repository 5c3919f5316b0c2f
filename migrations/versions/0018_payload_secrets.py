"""Stored events hold no client secrets, and lose their payloads after a time."""

from migrations.script import refuse_downgrade, run_sql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0018_payload_secrets.sql")


downgrade = refuse_downgrade
