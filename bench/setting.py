"""What the benchmarks post to, and the server that they are compared with."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from migrations.runner import migrate
from sandbox.signed_events import purchase_id
from shared.db.pool import connect
from shared.organizations import service as organizations

# What PostgreSQL keeps for reuse, by default (min_wal_size).
WAL_FILES = 5


@asynccontextmanager
async def fresh_database(server_url: str, part: str) -> AsyncIterator[str]:
    """Create a database, so that no part measures what another left behind; drop it after."""
    name = f"prepaid_bench_{part}"
    admin = await connect(server_url, application_name="prepaid-bench")
    await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await admin.execute(f"CREATE DATABASE {name}")
    url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
    await migrate(url)
    try:
        yield url
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def create_organization(database_url: str, slug: str) -> str:
    """Create an organization to post to; return its id."""
    connection = await connect(database_url, application_name="prepaid-bench")
    organization = await organizations.create(connection, slug=slug, name=slug)
    await connection.close()
    return str(organization.id)


async def open_purchases(database_url: str, organization: str, names: Sequence[str]) -> None:
    """Open the checkouts of 10.00 that `purchase_paid` pays."""
    connection = await connect(database_url, application_name="prepaid-bench")
    await connection.copy_records_to_table(
        "purchases",
        records=[(purchase_id(name), UUID(organization), 1000, "usd", 10) for name in names],
        columns=["id", "organization_id", "amount_minor", "currency", "credits"],
    )
    await connection.close()


async def reuse_wal(database_url: str) -> None:
    """Bring PostgreSQL to where it is after some hours: its WAL goes into files that it has.

    A new server makes a file for each 16 MiB, and all commits wait until it is on the disk: some
    60 ms, enough to make the p99 of a few seconds. Later it takes those that it no longer needs.
    """
    connection = await connect(database_url, application_name="prepaid-bench")
    for _ in range(WAL_FILES):
        await connection.execute("SELECT pg_logical_emit_message(FALSE, 'bench', '')")
        await connection.execute("SELECT pg_switch_wal()")
    await connection.execute("CHECKPOINT")
    await connection.close()


@asynccontextmanager
async def baseline_server(
    kind: str, environment: Mapping[str, str], folder: Path
) -> AsyncIterator[str]:
    """Run a server that does less; give its URL."""
    with (folder / f"{kind}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.baseline_server", kind,
            env={**os.environ, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        yield msgspec.json.decode(await process.stdout.readline())["url"]
    finally:
        process.terminate()
        await process.wait()


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used, in user and system mode (Linux)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    fields = status.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int, *, peak: bool = False) -> int:
    """Return a process's resident bytes, now or at their highest (Linux); 0 where it has ended.

    `ru_maxrss` is no measure of a child: Linux carries it from the parent through fork and exec.
    """
    field = "VmHWM:" if peak else "VmRSS:"
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    sizes = [line for line in status.splitlines() if line.startswith(field)]
    return int(sizes[0].split()[1]) * 1024 if sizes else 0  # a zombie has no memory
