"""Commands whose output nobody can read, and commands that a person interrupts."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.commands import Command, start_command
from tests.fixtures.product import (
    balance,
    create_organization,
    environment,
    payment,
    receive,
    until,
)

if TYPE_CHECKING:
    from sandbox.stripe.process import SimulatorProcess
    from shared.db.pool import Pool
    from worker.drainer import Drainer

WAIT_FOR_A_PROCESS = "SET LOCAL idle_in_transaction_session_timeout = 0"
COMMANDS = (("events", "list"), ("migrate", "sql"), ("doctor",))

pytestmark = pytest.mark.usefixtures("executed_processes")  # the start is part of the test


@pytest.fixture
def variables(database_url: str, redis_url: str, stand_in: SimulatorProcess) -> dict[str, str]:
    return environment(database_url, redis_url) | {"STRIPE_API_BASE": stand_in.url}


async def is_locked_out(pool: Pool) -> None:
    """Wait until a process waits for a lock."""

    async def waits() -> bool:
        return bool(await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    await until(waits)


async def run_into(
    descriptor: int, folder: Path, variables: dict[str, str]
) -> list[tuple[int | None, str]]:
    """Run each command with a descriptor as its stdout; return their codes and stderr."""
    processes = [
        await start_command(command, variables, folder=folder, stdout=descriptor)
        for command in COMMANDS
    ]
    os.close(descriptor)
    errors = [(await process.communicate())[1].decode() for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


async def test_a_reader_that_closes_the_pipe_ends_a_command_quietly(
    pool: Pool, tmp_path: Path, variables: dict[str, str]
) -> None:
    await receive(pool, payment("1"))
    reader, writer = os.pipe()
    os.close(reader)
    listed, printed, examined = await run_into(writer, tmp_path, variables)
    assert listed == printed == (0, "")
    assert examined == (1, "")  # no worker runs


async def test_an_output_that_is_full_is_one_line_and_exit_code_1(
    pool: Pool, tmp_path: Path, variables: dict[str, str]
) -> None:
    await receive(pool, payment("1"))
    full = os.open("/dev/full", os.O_WRONLY)
    line = "prepaid: The output cannot be written: No space left on device.\n"
    assert await run_into(full, tmp_path, variables) == [(1, line)] * len(COMMANDS)


async def test_an_interrupted_replay_says_how_to_continue(
    prepaid: Command, pool: Pool, drainer: Drainer, tmp_path: Path, variables: dict[str, str]
) -> None:
    await receive(pool, *(payment(str(number)) for number in range(3)))
    await drainer.drain()
    await create_organization(pool)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(WAIT_FOR_A_PROCESS)
        await connection.execute("SELECT FROM accounts FOR UPDATE")
        replay = ("events", "replay", "--state", "dead")
        process = await start_command(replay, variables, folder=tmp_path)
        await is_locked_out(pool)
        process.send_signal(signal.SIGINT)
        stdout, stderr = await process.communicate()
    batch = await pool.fetchrow("SELECT id, state, applied FROM replay_batches")
    assert batch is not None
    assert (batch["state"], batch["applied"]) == ("stopped", 0)
    assert (process.returncode, stdout) == (1, b"")
    resume = f"events replay --resume {batch['id']}"
    assert stderr.decode() == f"prepaid: Interrupted. Continue with prepaid {resume}\n"
    assert (await prepaid(*resume.split(), **variables)).code == 0
    assert await pool.fetchval("SELECT applied FROM replay_batches") == 3
    assert await balance(pool) == 30


async def test_a_command_without_progress_is_interrupted_in_one_line(
    pool: Pool, tmp_path: Path, variables: dict[str, str]
) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(WAIT_FOR_A_PROCESS)
        await connection.execute("LOCK TABLE stripe_events")
        process = await start_command(("events", "list"), variables, folder=tmp_path)
        await is_locked_out(pool)
        process.send_signal(signal.SIGINT)
        assert await process.communicate() == (b"", b"prepaid: Interrupted.\n")
    assert process.returncode == 1
