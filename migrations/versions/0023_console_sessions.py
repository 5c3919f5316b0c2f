"""Sessions and sign-in links of the operator console."""

from migrations.script import refuse_downgrade, run_sql

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0023_console_sessions.sql")


downgrade = refuse_downgrade
