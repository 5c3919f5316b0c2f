"""`prepaid migrate` while the product works: it holds nobody up, and may be killed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from alembic.script import ScriptDirectory

from migrations import locking, runner
from migrations.runner import migrate, status
from shared.db.pool import UNAVAILABLE, create_pool
from shared.errors import UnavailableError
from shared.ledger import store
from shared.ledger.batches import Ledger
from tests.fixtures.ledger import grant, hold, post, release, usage
from tests.fixtures.product import create_organization, until

if TYPE_CHECKING:
    from shared.db.pool import Pool
    from shared.organizations.model import Organization

REVISION = """
from alembic import op

revision, down_revision, branch_labels, depends_on = {revision!r}, {before!r}, None, None


def upgrade():
    op.execute({sql!r})
"""
WAITS_FOR_ACCOUNTS = """
SELECT count(*) > 0 FROM pg_locks WHERE relation = 'accounts'::regclass AND NOT granted
"""
MIGRATING = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND granted"
INVALID = """
SELECT count(*) > 0 FROM pg_index WHERE indexrelid = to_regclass('probe_index') AND NOT indisvalid
"""
INDEX = (
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS probe_index ON credit_transactions (organization_id);"
)
STUCK = """
SELECT
FROM accounts AS a
JOIN organizations AS o ON o.id = a.organization_id
WHERE o.slug = 'stuck'
FOR UPDATE OF a
"""
Release = Callable[..., Sequence[Path]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "LOCK_SECONDS_MAX", 0.2)
    monkeypatch.setattr(locking, "PAUSE_SECONDS_MIN", 0.1)


@pytest.fixture
def next_release(tmp_path: Path) -> Release:
    """Write a release with more migrations: pairs of what runs in a transaction and online."""

    def write(*migrations: tuple[str, str]) -> Sequence[Path]:
        for folder in ("versions", "sql"):
            (tmp_path / folder).mkdir()
        scripts = ScriptDirectory.from_config(runner._config())  # noqa: SLF001
        before = scripts.get_current_head()
        for number, (sql, online) in enumerate(migrations, start=9001):
            text = REVISION.format(revision=str(number), before=before, sql=sql)
            (tmp_path / "versions" / f"{number}_probe.py").write_text(text)
            (tmp_path / "sql" / f"{number}_probe.online.sql").write_text(online)
            before = str(number)
        return (runner.VERSIONS, tmp_path / "versions")

    return write


@asynccontextmanager
async def left_open(url: str, statement: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Run a statement in a transaction that ends with the block."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute(statement)
            yield connection
    finally:
        await connection.close()


def holds(pool: Pool, query: str, *args: object) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        return bool(await pool.fetchval(query, *args))

    return ask


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("SELECT FROM accounts", id="a report"),
        pytest.param(STUCK, id="a locked row"),
    ],
)
async def test_debits_go_on_while_a_migration_waits_for_a_long_transaction(
    pool: Pool,
    database_url: str,
    organization: Organization,
    next_release: Release,
    statement: str,
) -> None:
    await create_organization(pool, "stuck")
    await post(pool, grant(organization, 10))
    versions = next_release(("ALTER TABLE accounts ADD COLUMN probe integer", ""))
    said: list[str] = []
    async with left_open(database_url, statement):
        migrating = asyncio.create_task(
            migrate(database_url, versions=versions, report=said.append)
        )
        for tries in (1, 2):
            await until(holds(pool, WAITS_FOR_ACCOUNTS))
            (debit,) = await post(pool, usage(organization, 1))
            assert debit.status == "posted"
            assert not migrating.done()

            async def waited(tries: int = tries) -> bool:
                return len(said) >= tries

            await until(waited)
    await migrating
    assert said[0] == "waiting for a lock: migration 9001"
    assert (await status(database_url, versions=versions))["upToDate"]


async def test_a_migration_that_gets_no_lock_gives_up_and_says_who_has_it(
    pool: Pool, database_url: str, next_release: Release
) -> None:
    versions = next_release(
        ("CREATE TABLE probe ()", ""), ("ALTER TABLE accounts ADD COLUMN probe integer", "")
    )
    async with left_open(database_url, "SELECT FROM accounts") as holder:
        with pytest.raises(UnavailableError, match="a lock: migration 9002") as refused:
            await migrate(database_url, versions=versions, wait_seconds_max=0.3)
        assert f"process {holder.get_server_pid()} " in refused.value.detail
    assert await pool.fetchval("SELECT version_num FROM alembic_version") == "9001"
    assert await pool.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    await migrate(database_url, versions=versions)
    assert (await status(database_url, versions=versions))["current"] == "9002"


async def test_an_index_whose_build_was_killed_is_built_again(
    pool: Pool, database_url: str, organization: Organization, next_release: Release
) -> None:
    versions = next_release(("CREATE TABLE probe ()", INDEX))
    async with left_open(database_url, "LOCK TABLE credit_transactions IN ROW EXCLUSIVE MODE"):
        migrating = asyncio.create_task(migrate(database_url, versions=versions))
        await until(holds(pool, INVALID))
        (given,) = await post(pool, grant(organization, 1))
        assert given.status == "posted", "a build holds no posting up"
        pid = await pool.fetchval(MIGRATING, locking.MIGRATION_LOCK)
        await pool.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(UNAVAILABLE):
            await migrating
    found = await status(database_url, versions=versions)
    assert (found["current"], found["indexesInvalid"], found["upToDate"]) == (
        "9001",
        ["probe_index"],
        False,
    )
    said: list[str] = []
    await migrate(database_url, versions=versions, report=said.append)
    assert said == ["dropping the index probe_index, whose build did not end", INDEX.rstrip(";")]
    assert (await status(database_url, versions=versions))["upToDate"]


async def test_an_index_that_somebody_dropped_is_missing_and_built_again(
    pool: Pool, database_url: str, next_release: Release
) -> None:
    versions = next_release(
        ("CREATE TABLE probe (n integer)", INDEX),
        (
            "ALTER TABLE probe ADD CONSTRAINT probe_sign CHECK (n > 0) NOT VALID",
            "ALTER TABLE probe VALIDATE CONSTRAINT probe_sign;",
        ),
    )
    await migrate(database_url, versions=versions)
    assert await pool.fetchval(
        "SELECT convalidated FROM pg_constraint WHERE conname = 'probe_sign'"
    )
    await pool.execute("DROP INDEX probe_index")
    assert (await status(database_url, versions=versions))["indexesMissing"] == ["probe_index"]
    await migrate(database_url, versions=versions)
    assert (await status(database_url, versions=versions))["upToDate"]


async def test_migrations_that_run_at_once_take_turns_while_indexes_are_built(
    database_url: str, next_release: Release
) -> None:
    versions = next_release(
        ("CREATE TABLE probe ()", INDEX),
        ("CREATE TABLE probe_2 ()", INDEX.replace("be_i", "be_2_i")),
    )
    await asyncio.gather(*(migrate(database_url, versions=versions) for _ in range(3)))
    assert (await status(database_url, versions=versions))["upToDate"]


async def test_processes_of_the_last_release_go_on_while_the_schema_changes(
    database_url: str, pool: Pool, organization: Organization, next_release: Release
) -> None:
    """What they have prepared and cached is of the old schema; nothing is lost or posted twice."""
    versions = next_release(
        ("ALTER TABLE accounts ADD COLUMN probe integer NOT NULL DEFAULT 0", INDEX),
        ("ALTER TABLE holds ADD COLUMN probe text", ""),
        ("ALTER TABLE credit_grants ADD COLUMN probe text", ""),
        ("ALTER TYPE ledger_posting ADD ATTRIBUTE probe text", ""),
    )
    done = asyncio.Event()
    posted = itertools.count()

    async def work(old: Pool, ledger: Ledger) -> None:
        while not done.is_set():
            debit = usage(organization, 1)
            result = await again(partial(ledger.post, debit))
            assert result.status in {"posted", "replayed"}
            next(posted)
            await again(lambda: hold_and_release(old, organization))
            await again(lambda: read_grants(old, organization))

    async with create_pool(database_url, size=4, application_name="last-release") as old:
        await post(old, grant(organization, 1_000_000))
        workers = [asyncio.create_task(work(old, Ledger(old))) for _ in range(4)]
        try:
            await migrate(database_url, versions=versions)
        finally:
            done.set()
            await asyncio.gather(*workers)
    rows = await pool.fetchval("SELECT count(*) FROM credit_transactions WHERE type = 'usage'")
    assert rows == next(posted)
    assert (await status(database_url, versions=versions))["upToDate"]


async def hold_and_release(pool: Pool, owner: Organization) -> None:
    await release(pool, owner, (await hold(pool, owner, 1)).id)


async def read_grants(pool: Pool, owner: Organization) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await store.grants(connection, owner.id, before=1 << 60, is_open=None, limit=5)


async def again(work: Callable[[], Awaitable[Any]]) -> Any:
    """Do it, and again where it met an outage, as every caller may."""
    for _ in range(4):
        with contextlib.suppress(*UNAVAILABLE):
            return await work()
    return await work()
