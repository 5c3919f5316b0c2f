"""PostgreSQL: its version, the schema, the clock, and a pooler in between."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg

from cli.checks.model import Caution, DoctorError, Finding
from cli.schema_differences import differences
from migrations import runner
from shared.config import Settings
from shared.db.pool import LIMITS, close, connect, create_pool

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

POSTGRES_MAJOR_MIN = 15
# Leases are timed by PostgreSQL, deadlines and signatures by this machine.
CLOCK_SECONDS_MAX = 5.0
LOCK_KEY_BITS = 63  # of an advisory lock: a positive bigint


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Connection]:
    """Connect as a process does, for one check."""
    connection = await connect(settings.direct_database_url, application_name="prepaid-doctor")
    try:
        yield connection
    finally:
        await close(connection)


async def check_postgres(settings: Settings) -> Finding:
    """Check the version, and that a commit survives a power failure."""
    async with connected(settings) as connection:
        version = await connection.fetchval("SHOW server_version")
        fsync = await connection.fetchval("SHOW fsync")
    if int(version.split(".")[0]) < POSTGRES_MAJOR_MIN:
        raise DoctorError(f"PostgreSQL {version} is too old; use 15 or later")
    if fsync != "on":
        raise DoctorError(
            "fsync is off: a power failure would lose events that Stripe got a 200 for. Turn it on",
            "ALTER SYSTEM SET fsync = on",
        )
    return f"PostgreSQL {version}"


async def check_schema(settings: Settings) -> Finding:
    """Check that the schema is that of this release; processes go on with that of a later one."""
    status = await runner.status(settings.direct_database_url)
    if status["newer"]:
        return Caution(
            f"{'; '.join(differences(status))}: processes of this one go on until they are"
            " restarted with the later one",
            "install the later release here, then restart web and worker",
        )
    if not status["upToDate"]:
        raise DoctorError(
            f"{'; '.join(differences(status))}: run prepaid migrate",
            "prepaid migrate",
        )
    return f"at {status['current']}, up to date"


async def check_clock(settings: Settings) -> Finding:
    """Compare this machine's clock with PostgreSQL's."""
    async with connected(settings) as connection:
        before = datetime.now(UTC)
        there = await connection.fetchval("SELECT clock_timestamp()")
        after = datetime.now(UTC)
    seconds = clock_difference(there, before, after)
    if abs(seconds) > CLOCK_SECONDS_MAX:
        raise DoctorError(
            f"this machine's clock and PostgreSQL's differ by {seconds:+.1f} s: leases end early,"
            " or signatures are refused",
            "timedatectl set-ntp true",
        )
    return f"within {max(abs(seconds), 0.1):.1f} s of PostgreSQL's"


def clock_difference(there: datetime, before: datetime, after: datetime) -> float:
    """Return by how many seconds another clock is ahead: 0 where it lies between both readings."""
    if there < before:
        return (there - before).total_seconds()
    return max((there - after).total_seconds(), 0.0)


async def check_pooler(settings: Settings) -> Finding:
    """Find out whether DATABASE_URL leads through a pooler that shares server connections.

    Two connections that are open at once have the same server process only behind such a pooler.
    """
    if settings.pooled:
        return await _check_pool(settings)
    async with connected(settings) as first, connected(settings) as second:
        try:
            async with first.transaction():
                await first.fetchval("SELECT 1")
        except asyncpg.PostgresError as error:
            raise DoctorError(
                f"the pooler allows no transactions ({error}): it must pool by transaction or by"
                " session",
                "pool_mode = transaction",
            ) from None
        shared = await _server_process(first) == await _server_process(second)
        prepared = await _keeps_prepared_statements(first, second)
    return pooler_finding(shared=shared, prepared=prepared)


async def _check_pool(settings: Settings) -> Finding:
    """Check that the pooler leads to the database of the direct address, and its sessions."""
    async with (
        connected(settings) as direct,
        create_pool(
            settings.database_url, size=1, application_name="prepaid-doctor", pooled=True
        ) as pool,
    ):
        await _check_database(direct, pool)
        await _check_limits(pool)
    return "pooled by transaction; LISTEN goes to PREPAID_DIRECT_DATABASE_URL"


async def _check_database(direct: Connection, pool: Pool) -> None:
    """Hold a lock that only sessions of the same database see, and look for it by the pooler."""
    key = secrets.randbits(LOCK_KEY_BITS)
    async with direct.transaction():
        await direct.execute("SELECT pg_advisory_xact_lock($1)", key)
        is_free = await pool.fetchval("SELECT pg_try_advisory_xact_lock($1)", key)
    if is_free:
        raise DoctorError(
            "DATABASE_URL and PREPAID_DIRECT_DATABASE_URL name different databases: requests are in"
            " one; commands, reconciliation and the verification of the ledger in the other",
            "PREPAID_DIRECT_DATABASE_URL: the address of the database that the pooler leads to",
        )


async def _check_limits(pool: Pool) -> None:
    """Check that sessions behind the pooler have time limits, which a process cannot set there."""
    rows = await pool.fetch(
        "SELECT name, setting FROM pg_settings WHERE name = ANY($1)", list(LIMITS)
    )
    role = await pool.fetchval("SELECT quote_ident(current_user)")
    missing = sorted(row["name"] for row in rows if row["setting"] == "0")
    if missing:
        raise DoctorError(
            f"sessions behind the pooler have no {', '.join(missing)}: a process that freezes"
            " would hold its locks. Set them on the role, then reconnect the pooler",
            "; ".join(f"ALTER ROLE {role} SET {name} = '{LIMITS[name]}'" for name in missing),
        )


async def _server_process(connection: Connection) -> int:
    pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    return pid


async def _keeps_prepared_statements(first: Connection, second: Connection) -> bool:
    """Prepare on both in turn, so that one server connection would have to serve both."""
    try:
        statement = await first.prepare("SELECT $1::integer")
        other = await second.prepare("SELECT $1::integer + 1")
        return (await statement.fetchval(1), await other.fetchval(1)) == (1, 2)
    except asyncpg.PostgresError:
        return False


def pooler_finding(*, shared: bool, prepared: bool) -> Finding:
    """Say what a pooler means for the processes."""
    if not prepared:
        raise DoctorError(
            "the pooler loses prepared statements, and PREPAID_DIRECT_DATABASE_URL is not set",
            "PREPAID_DIRECT_DATABASE_URL: the address of PostgreSQL itself",
        )
    if shared:
        return Caution(
            "DATABASE_URL leads through a pooler in transaction mode. LISTEN is not available: a"
            " recharge begins within a second, and not at once",
            "PREPAID_DIRECT_DATABASE_URL: the address of PostgreSQL itself",
        )
    return "no pooler shares the connections of DATABASE_URL"
