"""An organization with a long history: pages of constant cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from console.framework import paging
from console.pages.organization import POINTS_MAX, balance_chart
from shared.organizations.model import Organization
from tests.fixtures.console import ConsoleBrowser
from tests.fixtures.ledger import tampering

if TYPE_CHECKING:
    from shared.db.pool import Pool

ROWS = 5_000
ROWS_READ = (
    "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables"
    " WHERE relname = 'credit_transactions'"
)


@pytest_asyncio.fixture
async def long_history(pool: Pool, organization: Organization) -> Organization:
    """Store debits, one a minute until now, and no more of what a posting writes."""
    async with tampering(pool) as connection:
        await connection.execute(
            "INSERT INTO credit_transactions (organization_id, seq, id, type, amount, counterparty,"
            " balance_after, consumed_after, idempotency_key, request_digest, effective_at,"
            " created_at, hash)"
            " SELECT $1, n, gen_random_uuid(), 'usage', -1, 'revenue', $2::integer - n, n,"
            " n::text, '', m.at, m.at, '' FROM generate_series(1, $2::integer) AS n"
            " CROSS JOIN LATERAL (SELECT now() - make_interval(mins => $2 - n) AS at) AS m",
            organization.id,
            ROWS,
        )
        await connection.execute("UPDATE accounts SET last_seq = $1", ROWS)
    return organization


async def test_the_course_of_a_long_history_has_at_most_200_points(
    operator: ConsoleBrowser, long_history: Organization
) -> None:
    page = await operator.get(f"/console/organizations/{long_history.id}")
    rows = page.rows("Balance over time")
    assert len(rows) == 201
    # The newest row, and equal distances from there.
    assert [row[1] for row in rows[1:4]] == ["0", "25", "50"]


async def test_the_course_reads_a_bounded_number_of_rows(
    operator: ConsoleBrowser, long_history: Organization
) -> None:
    for period in ("all", "7d", "24h"):
        async with operator.pool.acquire() as connection, connection.transaction():
            before = await connection.fetchval(ROWS_READ)
            statements: list[str] = []
            with connection.query_logger(lambda logged, to=statements: to.append(logged.query)):
                chart = await balance_chart(
                    connection, long_history.id, None, period, operator.clock()
                )
            read = await connection.fetchval(ROWS_READ) - before
        assert len(statements) <= 2
        assert len(chart.rows) >= POINTS_MAX / 2
        # One look-up a point, and the bisection that finds the beginning of the period.
        assert read <= POINTS_MAX + 2 * ROWS.bit_length()


async def test_each_page_of_a_long_history_opens(
    operator: ConsoleBrowser, long_history: Organization
) -> None:
    path = f"/console/organizations/{long_history.id}/history"
    for query, count in (
        ("", 50),
        ("?type=dispute", 0),
        ("?type=hold_capture", 0),
        ("?since=2001-01-01&until=2001-01-02", 0),
    ):
        page = await operator.get(path + query)
        assert page.status == 200, query
        assert len(page.rows("Transactions")) == count, query


async def test_a_page_is_reached_at_any_distance(
    operator: ConsoleBrowser, long_history: Organization
) -> None:
    path = f"/console/organizations/{long_history.id}/history"
    rows = (await operator.get(f"{path}?cursor={paging.encode(52)}")).rows("Transactions")
    assert [rows[0][0], rows[-1][0]] == ["51", "2"]
    page = await operator.get(f"{path}?cursor={paging.encode(-1_000_000)}")
    assert (page.status, page.rows("Transactions")) == (200, [])
