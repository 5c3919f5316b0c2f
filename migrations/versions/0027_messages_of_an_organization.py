"""An index of the messages of each organization."""

from migrations.script import refuse_downgrade, run_sql

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0027_messages_of_an_organization.sql")


downgrade = refuse_downgrade
