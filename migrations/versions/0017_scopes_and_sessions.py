"""Keys have a set of scopes, an expiry and a last use; browsers have sessions."""

from migrations.script import refuse_downgrade, run_sql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0017_scopes_and_sessions.sql")


downgrade = refuse_downgrade
