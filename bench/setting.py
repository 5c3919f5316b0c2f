"""What the benchmarks post to, and the server that they are compared with."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from shared.db.pool import connect
from shared.organizations import service as organizations


async def create_organization(database_url: str, slug: str) -> str:
    """Create an organization to post to; return its id."""
    connection = await connect(database_url, application_name="prepaid-bench")
    organization = await organizations.create(connection, slug=slug, name=slug)
    await connection.close()
    return str(organization.id)


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
