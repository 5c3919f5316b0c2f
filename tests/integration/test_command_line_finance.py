"""prepaid finance close: printed, as CSV and JSON, the same each time."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.months import Month
from tests.fixtures.commands import Command, assert_refused
from tests.fixtures.timeline import timeline

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

CLOSE = ("finance", "close", "2026-01")


async def test_a_close_is_printed_the_same_each_time_and_recorded_once(
    prepaid: Command, pool: Pool, organization: Organization
) -> None:
    async with timeline(pool, organization) as line:
        await line.buy(10, 1_000)
        await line.use("2.5")
    found = (await prepaid(*CLOSE, "--json")).json
    (part,) = found["currencies"]
    assert (part["currency"], part["deferredRevenue"]["recognised"]) == ("usd", 2.5)
    assert part["deferredRevenue"]["closing"] == 7.5
    assert found["accounts"] == {"organizations": 7.5, "revenue": 2.5, "stripe": -10}
    assert (await prepaid(*CLOSE, "--json")).json == found
    rows = list(csv.DictReader(io.StringIO((await prepaid(*CLOSE, "--csv")).stdout)))
    lines = {(row["section"], row["line"]): row["amount"] for row in rows}
    assert lines["deferred revenue", "recognised"] == "2.5"
    assert lines["hash", "close"] == found["hash"]
    text = (await prepaid(*CLOSE)).stdout
    assert found["hash"] in text
    assert "recognised" in text
    entries = await pool.fetch("SELECT action, subject FROM audit_log WHERE action ~ 'finance'")
    assert [tuple(row) for row in entries] == [("finance.close", "2026-01")]


async def test_a_month_that_has_not_ended_is_refused(prepaid: Command, pool: Pool) -> None:
    now = str(Month.of(datetime.now(UTC)))
    assert_refused(await prepaid("finance", "close", now), "cannot be closed before")
    for wrong in ("2026-13", "8999-01", "x"):
        assert (await prepaid("finance", "close", wrong)).code == 2
    assert await pool.fetchval("SELECT count(*) FROM finance_closes") == 0
