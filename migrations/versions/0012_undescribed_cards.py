"""Payment methods that nothing has described are not charged."""

from migrations.script import refuse_downgrade, run_sql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0012_undescribed_cards.sql")


downgrade = refuse_downgrade
