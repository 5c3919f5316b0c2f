"""An embedded PostgreSQL server: set up once, started, stopped, killed, started again."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Literal

import asyncpg

from sandbox.binaries import postgres_binaries, reachable_postgres
from sandbox.home import Home, ServerRecord, new_password
from sandbox.ports import LOOPBACK, free_port, is_free
from sandbox.process import (
    ServerProcess,
    ServerStartError,
    fresh_log,
    launch_command,
    server_environment,
    stop_leftovers,
    tail,
)
from sandbox.process_table import pid_in, running_in

ROLE = "prepaid"
DATABASE = "prepaid"

START_SECONDS_MAX = 60.0  # recovery after a crash reads the whole write-ahead log
STOP_SECONDS_MAX = 20.0
CONNECT_SECONDS_MAX = 10.0
PORT_TRIES_MAX = 5
CONNECTIONS_MAX = 200

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a socket's path may not exceed 107 bytes; checkouts' do
    "max_connections": str(CONNECTIONS_MAX),
    "shared_buffers": "128MB",
    "jit": "off",
    # Few checkpoints, so that a benchmark measures the work and not the checkpointer.
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}
# For tests. Commits are still written before they are answered, so they survive a crash of the
# server, though not of the machine; and less log is kept, as it may lie in memory.
UNSAFE_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "512MB",
    "dynamic_shared_memory_type": "mmap",  # goes with the folder, also after kill -9
}

STOP_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
COMMANDS = ("postgres",)
PID_FILE_STATUS = 7  # the last line of postmaster.pid, in all versions from 10 on


class EmbeddedPostgres:
    """PostgreSQL on the loopback address, with its data in a `Home`.

    Keeps its port and password over restarts, of the server and of the whole program. Unless it is
    stopped before, the server stops by itself when the thread that started it ends.
    """

    def __init__(self, home: Home, *, fsync: bool = True) -> None:
        self._home = home
        self._fsync = fsync
        self._data = home.servers / "postgres"
        self._process = ServerProcess("PostgreSQL", home.logs / "postgres.log", home.account)
        self._record = home.record("postgres") or ServerRecord(password=new_password())
        self._binaries = reachable_postgres(postgres_binaries(), home.account, home.servers)

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server was started and has not exited."""
        return self._process.running

    def dsn(self, database: str = DATABASE) -> str:
        """Return the address of a database, with its password."""
        return (
            f"postgresql://{ROLE}:{self._record.password}@{LOOPBACK}:{self._record.port}/{database}"
        )

    async def start(self) -> None:
        """Start the server and wait until it takes connections; set it up the first time."""
        await stop_leftovers(self._data, COMMANDS, self._pid_file, signal.SIGINT)
        try:
            if not (self._data / "PG_VERSION").exists():
                await self._set_up()
            self._forget_reused_pid()
            await self._listen()
            await self._make_database()
        except BaseException:
            self._process.kill()
            raise

    async def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server: after a checkpoint ("fast"), or as if it had crashed ("immediate")."""
        await self._process.stop((STOP_SIGNALS[mode], STOP_SECONDS_MAX), (signal.SIGQUIT, 1.0))

    async def kill(self) -> None:
        """Kill the server with all its processes, as a power cut would."""
        self._process.kill()

    async def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server and start it on the same port."""
        await self.stop(mode)
        await self.start()

    @property
    def _pid_file(self) -> Path:
        return self._data / "postmaster.pid"

    async def _set_up(self) -> None:
        """Make the data folder under another name, so that there is never half of one."""
        partial = self._home.servers / "postgres.partial"
        shutil.rmtree(partial, ignore_errors=True)
        self._home.folder(partial.name)
        self._home.save("postgres", self._record)
        password_file = self._home.servers / "postgres.password"
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(scram_verifier(self._record.password), encoding="ascii")
        if self._home.account is not None:
            self._home.account.owns(password_file)
        try:
            await self._initdb(partial, password_file)
        finally:
            password_file.unlink()
        if self._data.exists():
            self._data.rmdir()
        partial.rename(self._data)

    async def _initdb(self, folder: Path, password_file: Path) -> None:
        argv = [
            str(self._binaries.initdb),
            f"--pgdata={folder}",
            f"--username={ROLE}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            *([] if self._fsync else ["--no-sync"]),
        ]
        log = self._home.logs / "initdb.log"
        # C.UTF-8 knows the case of letters beyond ASCII; some systems only have C.
        for locale in ("C.UTF-8", "C"):
            status = await self._run([*argv, f"--locale={locale}"], log)
            if status == 0:
                return
            if "invalid locale" not in log.read_text(encoding="utf-8", errors="replace"):
                break
        raise ServerStartError(f"initdb exited with status {status}{tail(log)}")

    async def _run(self, argv: list[str], log: Path) -> int:
        with fresh_log(log) as output:
            process = await asyncio.create_subprocess_exec(
                *launch_command(argv, death_signal=signal.SIGTERM, account=self._home.account),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._home.servers,
                env=server_environment(),
                start_new_session=True,
            )
        try:
            return await process.wait()
        except asyncio.CancelledError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise

    def _forget_reused_pid(self) -> None:
        """Remove a crashed server's pid file whose number another program has got meanwhile.

        PostgreSQL would take that program for itself. The lock on the home and the look at the
        process table (see `stop_leftovers`) have shown that no server runs here.
        """
        pid = pid_in(self._pid_file)
        if pid is not None and pid not in running_in(self._data, COMMANDS, self._pid_file):
            self._pid_file.unlink()

    async def _listen(self) -> None:
        """Start on the port of last time if it is free; another program may win the race for it."""
        for _ in range(PORT_TRIES_MAX):
            if self._record.port is None or not is_free(self._record.port):
                self._record.port = free_port()
            self._home.save("postgres", self._record)
            self._process.spawn(
                self._command(), folder=self._home.servers, death_signal=signal.SIGINT
            )
            if await self._process.ready(self._is_ready, seconds_max=START_SECONDS_MAX):
                return
            if is_free(self._record.port):
                break
        raise ServerStartError(
            f"PostgreSQL exited with status {self._process.status}{self._process.tail()}"
        )

    def _command(self) -> list[str]:
        settings = SETTINGS | ({} if self._fsync else UNSAFE_SETTINGS)
        settings["port"] = str(self._record.port)
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        return [str(self._binaries.postgres), "-D", str(self._data), *flags]

    async def _is_ready(self) -> bool:
        """Whether the server says so in its pid file, as pg_ctl reads it.

        A connection alone proves less: on a port lost to another checkout, that one would answer.
        """
        try:
            lines = self._pid_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return False
        status = "".join(lines[PID_FILE_STATUS:]).strip()
        return lines[:1] == [str(self.pid)] and status == "ready"

    async def _make_database(self) -> None:
        connection = await asyncpg.connect(
            self.dsn("postgres"), ssl=False, timeout=CONNECT_SECONDS_MAX
        )
        try:
            found = await connection.fetchval(
                "SELECT true FROM pg_database WHERE datname = $1", DATABASE
            )
            if not found:
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()


def scram_verifier(password: str) -> str:
    """Return what PostgreSQL stores of a password (RFC 5803), with one iteration.

    Iterations slow down guessing; a random password cannot be guessed, and each of a test suite's
    many connections would pay for them.
    """
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations=1)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored = base64.b64encode(hashlib.sha256(client_key).digest()).decode()
    server = base64.b64encode(hmac.digest(salted, b"Server Key", "sha256")).decode()
    return f"SCRAM-SHA-256$1:{base64.b64encode(salt).decode()}${stored}:{server}"
