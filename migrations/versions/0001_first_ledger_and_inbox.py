"""Organizations, accounts, the ledger, the inbox, keys and the audit log."""

from migrations.script import run_sql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0001_first_ledger_and_inbox.sql")


def downgrade() -> None:
    """Refuse: a ledger is not taken back. Restore a backup instead."""
    raise NotImplementedError("restore a backup; the ledger is append-only")
