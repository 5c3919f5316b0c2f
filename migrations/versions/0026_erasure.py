"""The time of the erasure of an organization."""

from migrations.script import refuse_downgrade, run_sql

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0026_erasure.sql")


downgrade = refuse_downgrade
