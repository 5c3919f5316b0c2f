"""A hold captured in parts before and after the turn of an hour: each part counts in its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from shared.ledger.model import TransactionType
from shared.ledger.verification import verify
from shared.usage_reports import service as usage_reports
from shared.usage_reports.model import Dimension, GroupBy, ReportRequest, ReportSource
from tests.fixtures.budgets import create_budget, numbers, set_clock
from tests.fixtures.ledger import grant, hold, post, posting, usage

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.organizations.model import Organization

HOUR = timedelta(hours=1)
# The account's clock is ahead of the machine's, so that the turn is where the test wants it.
TURN = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + 2 * HOUR
JO: Any = {"user_id": "jo", "category": "chat"}


async def cost_of_hour(connection: Connection, owner: Organization, start: datetime) -> Any:
    """Return the cost of one hour as reports tell it: from totals, and from rows."""
    request = ReportRequest(
        start=start,
        end=start + HOUR,
        group_by=frozenset({GroupBy.USER}),
        values={Dimension.USER: "jo"},
        groups_max=10,
    )
    return await usage_reports.report(connection, owner.id, request)


@pytest.mark.parametrize("dimensions", [None, ["user"]], ids=["rows", "totals"])
async def test_each_part_of_a_capture_counts_in_the_hour_in_which_it_is_posted(
    pool: Pool, connection: Connection, organization: Organization, dimensions: list[str] | None
) -> None:
    await connection.execute(
        "UPDATE accounts SET usage_dimensions = $1, usage_dimensions_since = $2",
        dimensions,
        TURN - 24 * HOUR if dimensions else None,
    )
    budget = await create_budget(pool, organization, 10, window="hour")
    await post(pool, grant(organization, 100))
    await set_clock(pool, organization, TURN - timedelta(minutes=1))
    held = await hold(pool, organization, 8, seconds=4 * 3600, **JO)
    capture = (organization, TransactionType.HOLD_CAPTURE)
    await post(pool, posting(*capture, -1, hold_id=held.id, partial=True, **JO))
    await post(pool, usage(organization, 0.5, **JO))
    before = await connection.fetchrow("SELECT window_end, used, held FROM budget_counters")
    assert before is not None
    assert tuple(before) == (TURN, Decimal("1.5"), Decimal(7))

    await set_clock(pool, organization, TURN + timedelta(minutes=1))
    assert await numbers(pool, budget) == {"jo": (0, 7)}, "what is held stays held"
    await post(pool, posting(*capture, -3, hold_id=held.id, **JO))
    after = await connection.fetchrow("SELECT window_end, used, held FROM budget_counters")
    assert after is not None
    assert tuple(after) == (TURN + HOUR, Decimal(3), Decimal(0))

    source = ReportSource.TOTALS if dimensions else ReportSource.ROWS
    for start, cost in ((TURN - HOUR, Decimal("1.5")), (TURN, Decimal(3))):
        report = await cost_of_hour(connection, organization, start)
        assert (report.source, report.total.cost) == (source, cost)
        assert [group.cost for group in report.groups] == [cost]
    totals = await connection.fetch("SELECT hour, cost FROM usage_totals ORDER BY hour")
    assert [tuple(row) for row in totals] == [(TURN - HOUR, Decimal("1.5")), (TURN, Decimal(3))]
    assert (await verify(connection))["problems"] == []
