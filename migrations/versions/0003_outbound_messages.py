"""Webhook endpoints of the customer's app, and the messages to them."""

from migrations.script import refuse_downgrade, run_sql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0003_outbound_messages.sql")


downgrade = refuse_downgrade
