"""`make bench`: measures everything on embedded servers with fsync on, and prints the table.

Exit code 1 where a target is missed. `make bench ARGS=ingest` runs the named parts alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from bench import events, ingest, wrk
from bench.results import Ratio, table
from migrations.runner import migrate
from sandbox.servers import EmbeddedServers
from shared.db.pool import connect
from shared.organizations import service as organizations

SECRET = "whsec_test_bench"  # noqa: S105 - signs the benchmark's own events
Part = Callable[[Mapping[str, str], Path, str], Awaitable[list[Ratio]]]
PARTS: dict[str, Part] = {"ingest": ingest.measure, "events": events.measure}


@asynccontextmanager
async def _environment(folder: Path) -> AsyncIterator[dict[str, str]]:
    """Give the processes under test their servers: those that are set, else embedded ones."""
    fixed = {"STRIPE_API_KEY": "sk_test_bench", "STRIPE_WEBHOOK_SECRETS": SECRET}
    if "DATABASE_URL" in os.environ and "REDIS_URL" in os.environ:
        yield fixed | {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_URL")}
        return
    async with EmbeddedServers(folder / "home", fsync=True, keep=False) as servers:
        yield fixed | {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}


async def _run(names: list[str]) -> list[Ratio]:
    wrk.ensure_installed()
    with tempfile.TemporaryDirectory(prefix="prepaid-bench-") as name:
        folder = Path(name)
        async with _environment(folder) as environment:
            await migrate(environment["DATABASE_URL"])
            connection = await connect(environment["DATABASE_URL"], application_name="bench")
            organization = await organizations.create(connection, slug="bench", name="Bench")
            await connection.close()
            found: list[Ratio] = []
            for part in names:
                print(f"measuring {part} …", file=sys.stderr, flush=True)
                found += await PARTS[part](environment, folder, str(organization.id))
            return found


def main() -> int:
    """Run the named parts, or all; print the table."""
    names = sys.argv[1:] or list(PARTS)
    if unknown := set(names) - set(PARTS):
        print(f"unknown: {unknown.pop()}; there are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    ratios = asyncio.run(_run(names))
    print(table(ratios))
    return 0 if all(ratio.holds for ratio in ratios) else 1


if __name__ == "__main__":
    sys.exit(main())
