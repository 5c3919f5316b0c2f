"""The state of a Citus cluster, and the steps that distribute a database, each looked up first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from migrations import locking
from migrations.citus.distribution import (
    ClusterState,
    Coordinator,
    Kind,
    Step,
    is_loopback,
    steps,
)

if TYPE_CHECKING:
    from shared.db.pool import Connection

_VERSION = "SELECT extversion FROM pg_extension WHERE extname = 'citus'"
_NODES = """
SELECT
    coalesce(array_agg(n.nodename::text) FILTER (WHERE n.groupid <> 0), '{}') AS hosts,
    coalesce(bool_or(n.groupid = 0), FALSE) AS has_coordinator
FROM pg_dist_node AS n
WHERE n.noderole = 'primary'
"""
_TABLES = """
SELECT
    t.logicalrelid::text AS name,
    t.partmethod = 'h' AS is_distributed,
    t.partmethod = 'n' AND t.repmodel = 't' AS is_reference,
    EXISTS (
        SELECT FROM pg_dist_shard AS s
        INNER JOIN pg_dist_placement AS p ON s.shardid = p.shardid
        WHERE s.logicalrelid = t.logicalrelid AND p.groupid = 0
    ) AS is_on_coordinator
FROM pg_dist_partition AS t
"""
_FUNCTIONS = """
SELECT
    f.proname AS name,
    o.distribution_argument_index IS NOT NULL AND o.force_delegation IS TRUE AS is_delegated
FROM pg_dist_object AS o
INNER JOIN pg_proc AS f ON o.objid = f.oid
WHERE o.classid = 'pg_proc'::regclass
"""


async def read_state(connection: Connection) -> ClusterState:
    """Return how far this database is distributed; without the extension: not at all."""
    version = await connection.fetchval(_VERSION)
    if version is None:
        return ClusterState()
    nodes = await connection.fetchrow(_NODES)
    tables = await connection.fetch(_TABLES)
    functions = await connection.fetch(_FUNCTIONS)
    assert nodes is not None  # noqa: S101 - an aggregate returns a row
    reference = {row["name"]: row["is_on_coordinator"] for row in tables if row["is_reference"]}
    return ClusterState(
        version=version,
        nodes=len(nodes["hosts"]),
        has_remote_nodes=not all(map(is_loopback, nodes["hosts"])),
        has_coordinator=nodes["has_coordinator"],
        distributed=frozenset(row["name"] for row in tables if row["is_distributed"]),
        reference=frozenset(reference),
        replicated=frozenset(name for name, is_copied in reference.items() if is_copied),
        propagated=frozenset(row["name"] for row in functions),
        delegated=frozenset(row["name"] for row in functions if row["is_delegated"]),
    )


async def distribute(
    connection: Connection,
    coordinator: Coordinator,
    functions: Iterable[str],
    *,
    create_functions: Callable[[], Awaitable[None]],
    lock_retrier: locking.LockRetrier,
    report: Callable[[str], None],
) -> None:
    """Do what is left, each step in a transaction of its own: a run that was killed goes on there.

    Raises ConflictError where the database cannot be distributed, UnavailableError where its locks
    are not available.
    """
    for step in steps(await read_state(connection), coordinator, functions):
        report(step.name)

        async def take(step: Step = step) -> None:
            await _take(connection, step, create_functions)

        # For the session: some functions of Citus refuse to run in a transaction block.
        await connection.execute(f"SET lock_timeout = {int(locking.LOCK_SECONDS_MAX * 1000)}")
        await lock_retrier.run(f"a lock: {step.name}", take)
        await connection.execute("SET lock_timeout = 0")


async def _take(
    connection: Connection, step: Step, create_functions: Callable[[], Awaitable[None]]
) -> None:
    if step.kind is Kind.FUNCTIONS:
        await create_functions()
    else:
        await connection.execute(step.statement, *step.arguments)
