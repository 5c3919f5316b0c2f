"""PREPAID_HOME: one folder with all that the embedded servers keep, locked by who uses it."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import Self

import msgspec

from sandbox import external_data
from sandbox.account import server_account
from sandbox.external_data import PASSABLE, HomeError
from shared.errors import ConflictError

PASSWORD_BYTES = 24

PRIVATE = 0o700


class HomeInUseError(ConflictError):
    """The embedded servers are already running from this folder."""


class ServerRecord(msgspec.Struct):
    """What has to stay the same from one start of a server to the next."""

    password: str
    port: int | None = None


class Home:
    """A folder that this process alone uses until `close`.

    The lock is the kernel's, held by an open file: it goes with the process, even on kill -9.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            self.path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            self._lock = self._locked()
            try:
                self.account = server_account(self.path / "postgres")
                self.servers = self._servers_folder()
                self.logs = self.path / "log"
                self.logs.mkdir(mode=PRIVATE, exist_ok=True)
            except BaseException:
                os.close(self._lock)
                raise
        except OSError as error:
            raise HomeError(
                f"PREPAID_HOME: {self.path} cannot be used ({error}); name another folder"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others use the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove(self) -> None:
        """Delete the folder with all data, and let it go. Its servers must have stopped."""
        if self.servers != self.path:
            shutil.rmtree(self.servers)
        shutil.rmtree(self.path)
        self.close()

    def folder(self, name: str) -> Path:
        """Make a folder in which a server keeps its data, owned by the server's user."""
        path = self.servers / name
        path.mkdir(mode=PRIVATE, exist_ok=True)
        if self.account is not None:
            self.account.owns(path)
        return path

    def record(self, server: str) -> ServerRecord | None:
        """Read what was saved about a server."""
        path = self.path / f"{server}.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=ServerRecord)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise HomeError(
                f"{path} is damaged ({error}); delete {self.path} to start afresh"
            ) from error

    def save(self, server: str, record: ServerRecord) -> None:
        """Save what has to outlive this process, readable by its owner alone."""
        partial = self.path / f"{server}.json.partial"
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        partial.write_bytes(msgspec.json.encode(record))
        # Root's (`sudo make up`) has to stay readable for the user whose home it is.
        owner = self.path.stat()
        if owner.st_uid != os.geteuid():
            os.chown(partial, owner.st_uid, owner.st_gid)
        partial.replace(self.path / f"{server}.json")

    def _locked(self) -> int:
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(lock, 32, 0).decode().strip()
            os.close(lock)
            raise HomeInUseError(
                f"already running from {self.path} (process {owner}); "
                "stop it, or set PREPAID_HOME to another folder"
            ) from None
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _servers_folder(self) -> Path:
        """Return the folder for the servers' data: this one, or one that their user can reach."""
        if self.account is None:
            return self.path
        link = self.path / external_data.LINK
        if not link.is_symlink():
            if not self.account.may("x", self.path):
                self.path.chmod(PASSABLE)
            if self.account.may("x", self.path):
                return self.path
            link.symlink_to(external_data.place_for(self.path, self.account))
        external_data.remove_orphans()
        return external_data.prepare(link.readlink(), self.path)


def new_password() -> str:
    """Return a password that nobody can guess and no URL has to escape."""
    return secrets.token_urlsafe(PASSWORD_BYTES)
