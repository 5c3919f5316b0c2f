"""A batch that many organizations share waits for none of them."""

from migrations.script import refuse_downgrade, run_sql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0013_shared_batches.sql")


downgrade = refuse_downgrade
