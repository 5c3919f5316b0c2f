"""pgbench, the baseline of single debits: each transaction updates one hot row and adds a row."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from sandbox.binaries import postgres_binaries
from shared.db.pool import connect

SECONDS = 5
_SCRIPT = """
BEGIN;
UPDATE bench_balance SET balance = balance - 0.01 WHERE id = 1;
INSERT INTO bench_debit (id, amount) VALUES (1, -0.01);
COMMIT;
"""
_TABLES = """
CREATE TABLE bench_balance (id integer PRIMARY KEY, balance numeric(38, 9) NOT NULL);
INSERT INTO bench_balance VALUES (1, 1000000000);
CREATE TABLE bench_debit (
    seq bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    id integer NOT NULL,
    amount numeric(38, 9) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
"""
_TPS = re.compile(r"tps = ([\d.]+)")


async def create_tables(url: str) -> None:
    """Create what `run` writes to."""
    connection = await connect(url, application_name="prepaid-bench")
    await connection.execute(_TABLES)
    await connection.close()


async def run(url: str, folder: Path, *, clients: int) -> float:
    """Return the transactions a second of so many clients, each with a connection of its own."""
    script = folder / "debit.sql"
    script.write_text(_SCRIPT, encoding="utf-8")
    parts = urlsplit(url)
    process = await asyncio.create_subprocess_exec(
        str(postgres_binaries().folder / "pgbench"), "-n", "-M", "prepared", "-f", str(script),
        "-c", str(clients), "-j", "1", "-T", str(SECONDS), "-h", str(parts.hostname),
        "-p", str(parts.port or 5432), "-U", str(parts.username), parts.path.lstrip("/"),
        env={**os.environ, "PGPASSWORD": parts.password or ""},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    rate = _TPS.search(output)
    if process.returncode or rate is None:
        raise RuntimeError(f"pgbench failed:\n{output}")
    return float(rate[1])
