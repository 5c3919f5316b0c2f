"""The cost of a posting does not grow with history: it is counted in pages that are read."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from shared.db.pool import connect
from shared.ledger import service, store
from shared.ledger.model import Posting
from shared.ledger.verification import verify
from tests.fixtures.ledger import grant, left, post, usage

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

GRANTS_AT_ONCE_MAX = 500
EXPLAIN_NESTED = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_nested_statements = ON;
SET client_min_messages = LOG;
"""


async def many_grants(pool: Pool, owner: Organization, count: int, **fields: Any) -> None:
    """Post grants of 1 credit each."""
    for start in range(0, count, GRANTS_AT_ONCE_MAX):
        size = min(GRANTS_AT_ONCE_MAX, count - start)
        await post(pool, *(grant(owner, 1, **fields) for _ in range(size)))


async def pages_read(pool: Pool, *postings: Posting) -> int:
    """Post in one statement; return how many pages PostgreSQL read for it, in functions as well."""
    asked = [
        msgspec.structs.replace(posting, digest=posting.key.encode().hex()) for posting in postings
    ]
    row = await pool.fetchval(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM ledger_post($1::text::jsonb)",
        msgspec.json.encode(asked).decode(),
    )
    plan = json.loads(row)[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


@pytest.mark.parametrize("debits", [1, 20])
async def test_the_cost_of_debits_across_many_grants_is_linear_in_the_grants(
    pool: Pool, organization: Organization, debits: int
) -> None:
    """R10: 1,000, 2,000, 5,000 and 10,000 grants took 0.6, 2.8, 10 s and a timeout."""
    pages = []
    for count in (100, 800):
        await many_grants(pool, organization, count)
        pages.append(
            await pages_read(pool, *(usage(organization, count // debits) for _ in range(debits)))
        )
    assert pages[1] < 8 * 2 * pages[0]
    assert set(await left(pool, organization)) == {0}
    async with pool.acquire() as connection:
        assert (await verify(connection))["ok"]


async def test_a_burn_joins_nothing(
    pool: Pool, superuser_url: str, organization: Organization
) -> None:
    """R10: with statistics that know nothing, a join of burned grants compares each with each."""
    await many_grants(pool, organization, 20)
    plans: list[str] = []
    connection = await connect(superuser_url, application_name="test")
    try:
        connection.add_log_listener(lambda _connection, message: plans.append(message.message))
        await connection.execute(EXPLAIN_NESTED)
        await service.post(connection, [usage(organization, 20)])
    finally:
        await connection.close()
    writes = [
        plan for plan in plans if re.search(r"(Update on credit_grants|Insert on burn)", plan)
    ]
    assert len(writes) == 3, plans
    assert not [plan for plan in writes if "Join" in plan or "Nested Loop" in plan]


async def segments_read(pool: Pool, *postings: Posting) -> int:
    """Post in one transaction; return how many entries of burn segments and their indexes it read.

    Pages would not show it: neighbours are on the same page.
    """
    async with pool.acquire() as connection, connection.transaction():
        await service.post(connection, postings)
        read: int = await connection.fetchval(
            "SELECT sum(pg_stat_get_xact_tuples_returned(c.oid))::int FROM pg_class AS c"
            " LEFT JOIN pg_index AS i ON i.indexrelid = c.oid"
            " WHERE coalesce(i.indrelid, c.oid) = 'burn_segments'::regclass"
        )
        return read


async def test_the_cost_of_a_switch_of_grants_does_not_depend_on_the_segments_before_it(
    pool: Pool, organization: Organization
) -> None:
    """R10: after 26,000 segments, 1,000 grants took 12 s."""
    await many_grants(pool, organization, 20)
    first = await segments_read(pool, usage(organization, 20))
    await many_grants(pool, organization, 200)
    await post(pool, usage(organization, 200))
    await many_grants(pool, organization, 20)
    assert await segments_read(pool, usage(organization, 20)) <= first + 5


async def test_a_page_of_what_a_grant_paid_for_reads_no_more_than_it_returns(
    pool: Pool, organization: Organization
) -> None:
    """R20: all debits of the grant were read and sorted for each page."""
    (made, _) = await post(pool, grant(organization, 5000), grant(organization, 1, priority=90))
    await post(pool, *(usage(organization, 1) for _ in range(20)))
    read = []
    for count in (0, 2000):
        await post(pool, *(usage(organization, 1) for _ in range(count)))
        row = await pool.fetchval(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM ledger_uses($1, $2, 10, 5)",
            organization.id,
            made.id,
        )
        plan = json.loads(row)[0]["Plan"]
        assert plan["Actual Rows"] == 5
        read.append(int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"]))
    assert read[1] < 3 * read[0]
    async with pool.acquire() as connection:
        assert made.id is not None
        page = await store.uses(connection, organization.id, made.id, after=2021, limit=9)
    assert [use.seq for use in page] == [2022]
