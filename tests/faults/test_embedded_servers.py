"""The embedded servers against kill -9, restarts, closed folders and other people's processes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from sandbox.account import Account, server_account
from sandbox.binaries import postgres_binaries, reachable_postgres
from sandbox.external_data import BASE
from sandbox.home import Home, HomeInUseError
from sandbox.ports import LOOPBACK, free_port
from sandbox.process import ServerStartError
from sandbox.process_table import children_of, send
from sandbox.servers import EmbeddedServers
from tests.fixtures.machine import needs_death_signals, needs_root
from tests.fixtures.servers import fast_folder

WAIT_SECONDS_MAX = 15
PYTHON = (Path(sys.executable).resolve(), Path(sys.prefix))
AS_ROOT = os.geteuid() == 0

STARTER = """
import asyncio, json, sys
from pathlib import Path
from sandbox.process_table import children_of, send
from sandbox.servers import EmbeddedServers

async def main():
    async with EmbeddedServers(Path(sys.argv[1]), fsync=False) as servers:
        postgres, valkey = servers.postgres.pid, servers.valkey.pid
        facts = {
            "pids": [postgres, *children_of(postgres), valkey],
            "postgres": postgres,
            "valkey": valkey,
            "database_url": servers.database_url,
            "redis_url": servers.redis_url,
        }
        print(json.dumps(facts), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """Give a folder that the servers' user can pass through, unlike pytest's own for root."""
    path = Path(tempfile.mkdtemp(prefix="prepaid-tests-faults-", dir=fast_folder()))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def home(base: Path) -> Path:
    """Give a home that most tests share: setting one up takes longer than starting it."""
    return base / "home"


class Program(subprocess.Popen[bytes]):
    """Another process, of another user if one is given."""

    def __init__(self, argv: list[str], user: Account | None) -> None:
        rights: dict[str, Any] = {}
        if user is not None:
            rights = {"user": user.uid, "group": user.gid, "extra_groups": []}
        super().__init__(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", **rights)


class Starter:
    """Another process that runs the embedded servers until it is killed."""

    def __init__(self, home: Path, user: Account | None = None) -> None:
        self.process = Program([sys.executable, "-c", STARTER, str(home)], user)
        assert self.process.stdout is not None
        self.facts: dict[str, Any] = json.loads(self.process.stdout.readline())

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.communicate()

    async def assert_nothing_left(self) -> None:
        await until(lambda: not any(is_alive(pid) for pid in self.facts["pids"]))


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped yet does not."""
    found = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()[:1] not in {"", "Z"}


def read_if_there(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def servers_at(path: Path) -> EmbeddedServers:
    return EmbeddedServers(path, fsync=False)


async def run_sql(servers: EmbeddedServers, statement: str) -> Any:
    return await sql_at(servers.database_url, statement)


async def sql_at(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def run_redis(url: str, *command: str) -> Any:
    client = redis.asyncio.Redis.from_url(url, decode_responses=True)
    try:
        return await client.execute_command(*command)
    finally:
        await client.aclose()


@needs_death_signals
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_the_end_of_the_starter_leaves_no_process(home: Path, number: signal.Signals) -> None:
    starter = Starter(home)
    starter.end(number)
    await starter.assert_nothing_left()


async def test_commits_survive_kill_9_of_everything(home: Path) -> None:
    starter = Starter(home)
    await sql_at(starter.facts["database_url"], "CREATE TABLE survivor AS SELECT 7 AS n")
    await run_redis(starter.facts["redis_url"], "SET", "survivor", "7")
    # Frozen, the servers cannot obey the kernel's message that their starter is gone.
    for server in ("postgres", "valkey"):
        os.kill(starter.facts[server], signal.SIGSTOP)
    starter.end(signal.SIGKILL)
    for pid in starter.facts["pids"]:
        send(pid, signal.SIGKILL)
    await starter.assert_nothing_left()
    (half_written,) = (home / "valkey").glob("appendonlydir/*.incr.aof")
    with half_written.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nha")

    async with servers_at(home) as servers:
        assert servers.database_url == starter.facts["database_url"]
        assert await run_sql(servers, "SELECT n FROM survivor") == 7
        assert await run_redis(servers.redis_url, "GET", "survivor") == "7"


async def test_a_pid_file_whose_number_is_another_programs_now(home: Path) -> None:
    async with servers_at(home) as servers:
        await servers.postgres.kill()
        pid_file = home / "postgres" / "postmaster.pid"
        rest = pid_file.read_text().split("\n", 1)[1]
    with Program(["sleep", "60"], server_account(home / "postgres")) as other:
        pid_file.write_text(f"{other.pid}\n{rest}")
        async with servers_at(home) as servers:
            assert await run_sql(servers, "SELECT 1") == 1
        assert other.poll() is None
        other.kill()


async def test_a_server_that_outlived_its_starter_is_stopped_first(home: Path) -> None:
    async with servers_at(home) as servers:
        user, data = servers.home.account, home / "postgres"
        programs = reachable_postgres(postgres_binaries(), user, servers.home.servers)
    settings = (f"listen_addresses={LOOPBACK}", f"port={free_port()}", "unix_socket_directories=")
    flags = [flag for setting in settings for flag in ("-c", setting)]
    with Program([str(programs.postgres), "-D", str(data), *flags], user) as orphan:
        await until(lambda: "ready" in read_if_there(data / "postmaster.pid"))
        async with servers_at(home) as servers:
            assert orphan.wait() == 0
            assert await run_sql(servers, "SELECT 1") == 1


async def test_a_second_start_from_the_same_home_is_refused(home: Path) -> None:
    async with servers_at(home):
        with pytest.raises(HomeInUseError, match=f"already running .*process {os.getpid()}"):
            await servers_at(home).start()
    async with servers_at(home) as servers:
        assert await run_sql(servers, "SELECT 1") == 1


async def test_servers_listen_on_the_loopback_address_alone_and_ask_for_passwords(
    home: Path,
) -> None:
    async with servers_at(home) as servers:
        assert await run_sql(servers, "SHOW listen_addresses") == LOOPBACK
        assert await run_sql(servers, "SHOW unix_socket_directories") == ""
        assert await run_redis(servers.redis_url, "CONFIG", "GET", "bind") == ["bind", LOOPBACK]
        with pytest.raises(asyncpg.InvalidPasswordError):
            await sql_at(servers.database_url.replace("prepaid:", "prepaid:x"), "SELECT 1")
        with pytest.raises(redis.exceptions.AuthenticationError):
            await run_redis(servers.redis_url.replace("redis://:", "redis://:x"), "PING")


async def test_a_taken_port_is_changed(home: Path) -> None:
    async with servers_at(home) as servers:
        before = servers.database_url, servers.redis_url
    with socket.socket() as postgres_port, socket.socket() as valkey_port:
        for taken, url in zip((postgres_port, valkey_port), before, strict=True):
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind((LOOPBACK, int(url.rsplit(":", 1)[1].split("/")[0])))
            taken.listen()
        async with servers_at(home) as servers:
            assert servers.database_url != before[0]
            assert servers.redis_url != before[1]
            assert await run_sql(servers, "SELECT 1") == 1


async def test_servers_come_back_on_their_ports(home: Path) -> None:
    async with servers_at(home) as servers:
        before = servers.database_url, servers.redis_url
        await run_sql(servers, "CREATE TABLE kept AS SELECT 1 AS n")
        children = children_of(servers.postgres.pid)
        await servers.postgres.kill()
        await until(lambda: not any(is_alive(pid) for pid in children))
        await servers.postgres.start()
        await servers.valkey.kill()
        assert not servers.valkey.running
        await servers.valkey.start()
        await servers.postgres.restart("immediate")
        await servers.postgres.restart()
        await servers.valkey.restart()
        assert (servers.database_url, servers.redis_url) == before
        assert await run_sql(servers, "SELECT n FROM kept") == 1
        assert await run_redis(servers.redis_url, "PING")


async def test_a_server_that_cannot_start_shows_the_end_of_its_log(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with servers_at(home):
        pass
    settings = home / "postgres" / "postgresql.auto.conf"
    good = settings.read_text()
    settings.write_text("no_such_setting = 1\n")
    with pytest.raises(ServerStartError, match=r"status 1; .*postgres\.log ends(.|\n)*no_such_set"):
        await servers_at(home).start()
    settings.write_text(good)
    monkeypatch.setenv("PREPAID_REDIS_BIN", shutil.which("false") or "")
    with pytest.raises(ServerStartError, match="Valkey exited with status 1"):
        await servers_at(home).start()


async def test_a_home_with_a_long_path(base: Path) -> None:
    deep = base / ("long" * 20) / ("path" * 20) / "home"
    assert len(str(deep)) > 150
    for folder in deep.parents[1::-1]:
        folder.mkdir(exist_ok=True)
    async with servers_at(deep) as servers:
        assert await run_sql(servers, "SELECT 1") == 1


@needs_root
async def test_a_home_in_a_folder_that_is_closed_to_the_servers_user(base: Path) -> None:
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    async with servers_at(closed / "home") as servers:
        outside = servers.home.servers
        assert outside.parent == BASE
        await run_sql(servers, "CREATE TABLE kept AS SELECT 1 AS n")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    async with EmbeddedServers(closed / "home", fsync=False, keep=False) as servers:
        assert await run_sql(servers, "SELECT n FROM kept") == 1
    assert not outside.exists()
    assert not (closed / "home").exists()


@needs_root
async def test_an_ordinary_user(base: Path) -> None:
    user = server_account(base / "nothing")
    assert user is not None
    for needed in PYTHON:
        if not user.may("x", needed):
            pytest.skip(f"this Python lies in a folder that is closed to user {user.uid}: {needed}")
    theirs = base / "theirs"
    theirs.mkdir(mode=0o700)
    user.owns(theirs)
    starter = Starter(theirs / "home", user)
    assert await sql_at(starter.facts["database_url"], "SELECT 1") == 1
    assert stat.S_IMODE((theirs / "home").stat().st_mode) == 0o700
    starter.end(signal.SIGKILL)
    await starter.assert_nothing_left()
    # The same home under sudo: the servers go on as the user whose data it is.
    with Home(theirs / "home") as home:
        assert home.account == user
    async with servers_at(theirs / "home") as servers:
        assert await run_sql(servers, "SELECT 1") == 1
