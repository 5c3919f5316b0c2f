"""The embedded default: PostgreSQL and Valkey from wheels, in one folder, for one process."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from cli.environment import home_path
from sandbox.home import Home
from sandbox.postgres import EmbeddedPostgres
from sandbox.valkey import EmbeddedValkey


class EmbeddedServers:
    """Both servers, running while the `async with` block does.

    Nothing is left behind, however the block or the process ends. A second start from the same
    folder is refused with `HomeInUseError`; one that fails says why with `ServerStartError`.
    With `keep=False` the folder goes at the end, with all data.
    """

    def __init__(
        self,
        home: Path | None = None,
        *,
        fsync: bool = True,
        appendonly: bool = True,
        keep: bool = True,
    ) -> None:
        self._path = home or home_path()
        self._fsync = fsync
        self._appendonly = appendonly
        self._keep = keep

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def database_url(self) -> str:
        """The value for DATABASE_URL."""
        return self.postgres.dsn()

    @property
    def redis_url(self) -> str:
        """The value for REDIS_URL."""
        return self.valkey.url()

    async def start(self) -> None:
        """Take the folder and start both servers, or neither."""
        self.home = Home(self._path)
        try:
            self.postgres = EmbeddedPostgres(self.home, fsync=self._fsync)
            self.valkey = EmbeddedValkey(self.home, appendonly=self._appendonly)
            await self.valkey.start()
            try:
                await self.postgres.start()
            except BaseException:
                await self.valkey.stop()
                raise
        except BaseException:
            self.home.close()
            raise

    async def stop(self) -> None:
        """Stop both servers, then let the folder go."""
        try:
            await self.postgres.stop()
        finally:
            await self.valkey.stop()
            if not self._keep:
                self.home.remove()
            self.home.close()
