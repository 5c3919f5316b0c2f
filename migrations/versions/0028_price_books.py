"""Price books and discounts."""

from migrations.script import refuse_downgrade, run_sql

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0028_price_books.sql")


downgrade = refuse_downgrade
