"""Organizations, accounts, the ledger, the inbox, keys and the audit log."""

from migrations.script import refuse_downgrade, run_sql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0001_first_ledger_and_inbox.sql")


downgrade = refuse_downgrade
