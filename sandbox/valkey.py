"""An embedded Valkey (or Redis) server: started, stopped, killed, started again."""

from __future__ import annotations

import signal

import redis.asyncio
import redis.exceptions

from sandbox.binaries import reachable_valkey, valkey_binary
from sandbox.home import Home, ServerRecord, new_password
from sandbox.ports import LOOPBACK, free_port, is_free
from sandbox.process import ServerProcess, ServerStartError, stop_leftovers

START_SECONDS_MAX = 30.0  # a long append-only file is read from its beginning
STOP_SECONDS_MAX = 10.0
CONNECT_SECONDS_MAX = 2.0
PORT_TRIES_MAX = 5


class EmbeddedValkey:
    """Valkey on the loopback address, with its data in a `Home`.

    Keeps its port and password over restarts, of the server and of the whole program. Unless it is
    stopped before, the server stops by itself when the thread that started it ends.
    """

    def __init__(self, home: Home, *, appendonly: bool = True) -> None:
        self._home = home
        self._appendonly = appendonly
        self._data = home.folder("valkey")
        self._process = ServerProcess("Valkey", home.logs / "valkey.log", home.account)
        self._record = home.record("valkey") or ServerRecord(password=new_password())
        self._binary = reachable_valkey(valkey_binary(), home.account, home.servers)

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server was started and has not exited."""
        return self._process.running

    def url(self, database: int = 0) -> str:
        """Return the address of a logical database, with its password."""
        return f"redis://:{self._record.password}@{LOOPBACK}:{self._record.port}/{database}"

    async def start(self) -> None:
        """Start the server and wait until it answers."""
        commands = {self._binary.name, "valkey-server", "redis-server"}
        await stop_leftovers(self._data, commands, self._data / "valkey.pid", signal.SIGTERM)
        try:
            await self._listen()
        except BaseException:
            self._process.kill()
            raise

    async def stop(self) -> None:
        """Stop the server; it writes out what it keeps."""
        await self._process.stop((signal.SIGTERM, STOP_SECONDS_MAX))

    async def kill(self) -> None:
        """Kill the server at once."""
        self._process.kill()

    async def restart(self) -> None:
        """Stop the server and start it on the same port."""
        await self.stop()
        await self.start()

    async def _listen(self) -> None:
        """Start on the port of last time if it is free; another program may win the race for it."""
        for _ in range(PORT_TRIES_MAX):
            if self._record.port is None or not is_free(self._record.port):
                self._record.port = free_port()
            self._home.save("valkey", self._record)
            self._process.spawn(
                [str(self._binary), "-"],
                folder=self._data,
                death_signal=signal.SIGTERM,
                standard_input=self._settings().encode(),
            )
            if await self._process.ready(self._is_ready, seconds_max=START_SECONDS_MAX):
                return
            if is_free(self._record.port):
                break
        raise ServerStartError(
            f"Valkey exited with status {self._process.status}{self._process.tail()}"
        )

    def _settings(self) -> str:
        """Return the settings, for standard input: arguments would show the password in `ps`."""
        return "\n".join(
            [
                f"bind {LOOPBACK}",
                f"port {self._record.port}",
                "protected-mode yes",
                f"requirepass {self._record.password}",
                "daemonize no",
                "pidfile valkey.pid",
                'save ""',
                f"appendonly {'yes' if self._appendonly else 'no'}",
                "appendfsync everysec",
                "aof-load-truncated yes",
                "",
            ]
        )

    async def _is_ready(self) -> bool:
        """Whether this very process answers: on a lost port, another checkout's would."""
        client = redis.asyncio.Redis.from_url(
            self.url(), socket_connect_timeout=CONNECT_SECONDS_MAX
        )
        try:
            server = await client.info("server")
        except (
            redis.exceptions.ConnectionError,  # not there yet, or reading its file
            redis.exceptions.TimeoutError,
            redis.exceptions.ResponseError,  # another server's, with another password
        ):
            return False
        finally:
            await client.aclose()
        return bool(server["process_id"] == self.pid)
