"""`prepaid migrate --citus`, against functions with the names of Citus' own that record calls."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from migrations import locking, runner
from migrations.citus import cluster
from migrations.citus.distribution import DELEGATED, DISTRIBUTED, REFERENCE, Coordinator
from shared.db.pool import connect
from shared.errors import ConflictError
from tests.fixtures.commands import assert_refused
from tests.fixtures.ledger import grant, statuses, usage
from tests.fixtures.product import WAIT_SECONDS_MAX

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from tests.fixtures.commands import Command

STAND_IN = Path(__file__).with_name("citus_stand_in.sql")
EXTENSION = """
SET allow_system_table_mods = on;
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
SELECT 16000, 'citus', oid, 'pg_catalog'::regnamespace, FALSE, '14.0-1'
FROM pg_roles WHERE rolname = current_user
"""
COORDINATOR = Coordinator("db-0", 5432)
BUDGET = """
INSERT INTO budgets (
    organization_id, id, subject_kind, subject, window_kind, limit_amount, action, thresholds,
    created_at, updated_at
)
VALUES ($1, gen_random_uuid(), 'user', '*', 'day', 5, 'refuse', '{}', now(), now())
"""


@pytest.fixture
async def cluster_url(database_url: str, superuser_url: str) -> str:
    """Return a database that looks like the coordinator of a cluster with one node."""
    connection = await asyncpg.connect(superuser_url)
    await connection.execute(STAND_IN.read_text(encoding="utf-8"))
    await connection.execute(EXTENSION)
    await connection.close()
    return database_url


class KilledError(Exception):
    """The run was killed."""


async def distribute(url: str, *, stop_at: int | None = None) -> list[str]:
    """Migrate with --citus, and return the steps that were begun; stop before one of them."""
    begun: list[str] = []

    def report(line: str) -> None:
        if len(begun) == stop_at:
            raise KilledError
        begun.append(line)

    await runner.migrate(url, coordinator=COORDINATOR, report=report)
    return begun


async def test_a_database_is_distributed_and_the_second_run_does_nothing(cluster_url: str) -> None:
    begun = await distribute(cluster_url)
    assert len(begun) == len(DISTRIBUTED) + len(REFERENCE) + len(DELEGATED) + 4
    assert await distribute(cluster_url) == []
    connection = await connect(cluster_url, application_name="test")
    state = await cluster.read_state(connection)
    await connection.close()
    assert state.distributed == set(DISTRIBUTED)
    assert state.delegated == set(DELEGATED)
    assert (await runner.status(cluster_url))["upToDate"]


@pytest.mark.parametrize("killed_at", [1, 5, 14, 16])
async def test_a_run_that_was_killed_is_finished_by_the_next(
    cluster_url: str, killed_at: int
) -> None:
    with pytest.raises(KilledError):
        await distribute(cluster_url, stop_at=killed_at)
    await distribute(cluster_url)
    assert await distribute(cluster_url) == []


@pytest.mark.parametrize(
    ("table", "step"),
    [
        ("budgets", "distribute budgets"),
        ("webhook_endpoints", "copy webhook_endpoints to every node"),
    ],
)
async def test_a_table_of_a_later_release_is_distributed_with_the_rows_it_has(
    cluster_url: str,
    superuser_url: str,
    organization: Organization,
    pool: Pool,
    table: str,
    step: str,
) -> None:
    """The tables of the coordinator that refer to it stay its own."""
    await distribute(cluster_url)
    await pool.execute(BUDGET, organization.id)
    before = await metadata(pool)
    await forget(superuser_url, table)
    assert step in await distribute(cluster_url)
    assert await distribute(cluster_url) == []
    assert await metadata(pool) == before
    assert await pool.fetchval("SELECT count(*) FROM budgets") == 1


async def metadata(pool: Pool) -> set[tuple[str, str]]:
    """Return the tables that are in the metadata, each with its method."""
    rows = await pool.fetch(
        "SELECT logicalrelid::text AS name, partmethod AS method FROM pg_dist_partition"
    )
    return {(row["name"], row["method"]) for row in rows}


async def forget(superuser_url: str, table: str) -> None:
    """Bring a cluster back to where the release before a table left it."""
    connection = await asyncpg.connect(superuser_url)
    shard = "SELECT shardid FROM pg_dist_shard WHERE logicalrelid = $1::text::regclass"
    await connection.execute(f"DELETE FROM pg_dist_placement WHERE shardid IN ({shard})", table)  # noqa: S608
    for catalog in ("pg_dist_shard", "pg_dist_partition"):
        await connection.execute(
            f"DELETE FROM {catalog} WHERE logicalrelid = $1::text::regclass",  # noqa: S608
            table,
        )
    await connection.close()


async def test_a_release_whose_functions_changed_keeps_those_of_the_cluster(
    cluster_url: str, pool: Pool, organization: Organization
) -> None:
    await distribute(cluster_url)
    await pool.execute(
        "UPDATE schema_functions SET sha256 = '' WHERE file = 'ledger/sql/batch.sql'"
    )
    assert not (await runner.status(cluster_url))["functionsCurrent"]
    await runner.migrate(cluster_url)
    source = await pool.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'ledger_post'")
    assert "ledger_delegate" in source
    assert await statuses(pool, grant(organization, 5), usage(organization, 2)) == [
        "posted",
        "posted",
    ]
    shards = await pool.fetch("SELECT node FROM ledger_shards()")
    assert [row["node"] for row in shards] == ["node-1:5432"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "db.localhost"])
async def test_an_address_at_which_each_node_reaches_itself_is_refused(
    cluster_url: str, host: str, pool: Pool
) -> None:
    with pytest.raises(ConflictError, match="Add --coordinator HOST:PORT"):
        await runner.migrate(cluster_url, coordinator=Coordinator(host, 5432))
    assert await pool.fetchval("SELECT count(*) FROM pg_dist_partition") == 0


async def test_a_cluster_on_one_machine_may_use_its_own_address(
    cluster_url: str, superuser_url: str
) -> None:
    connection = await asyncpg.connect(superuser_url)
    await connection.execute("UPDATE pg_dist_node SET nodename = 'localhost'")
    await connection.close()
    await runner.migrate(cluster_url, coordinator=Coordinator("localhost", 5432))
    assert (await runner.status(cluster_url))["upToDate"]


async def test_a_step_waits_briefly_at_a_time_for_a_table_that_is_in_use(
    cluster_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "LOCK_SECONDS_MAX", 0.1)
    monkeypatch.setattr(locking, "PAUSE_SECONDS_MIN", 0.05)
    waits = asyncio.Event()

    def report(line: str) -> None:
        if line.startswith("waiting for a lock: "):
            waits.set()

    async with asyncio.timeout(WAIT_SECONDS_MAX), pool.acquire() as other:
        async with other.transaction():
            await other.execute("LOCK TABLE holds IN ROW EXCLUSIVE MODE")
            migrating = asyncio.create_task(
                runner.migrate(cluster_url, coordinator=COORDINATOR, report=report)
            )
            await waits.wait()
        await migrating
    assert await distribute(cluster_url) == []


async def test_without_citus_the_command_says_what_to_do(
    prepaid: Command, database_url: str
) -> None:
    refused = await prepaid("migrate", "--citus", DATABASE_URL=database_url)
    assert_refused(refused, "CREATE EXTENSION citus", "citus_add_node")
    refused = await prepaid("migrate", "--citus", "--coordinator", "db-0")
    assert refused.code == 2
    assert "HOST:PORT" in refused.stderr
