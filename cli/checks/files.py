"""Whether others on this machine can read the secrets."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from cli.checks.model import DoctorError, Finding
from cli.environment import ENV_FILE, home_path
from shared.config import Settings

DOTENV = ".env"
OTHERS = stat.S_IRWXG | stat.S_IRWXO


async def check_files(_settings: Settings) -> Finding:
    """Raise DoctorError where group or others may read a file with secrets."""
    found = list(_secret_files())
    readable = [path for path in found if path.stat().st_mode & OTHERS]
    if readable:
        names = " ".join(map(str, readable))
        raise DoctorError(f"others can read {names}, which holds secrets", f"chmod 600 {names}")
    if not found:
        return "no file here holds secrets"
    return f"only their owner can read {', '.join(map(str, found))}"


def _secret_files() -> Iterator[Path]:
    for path in (Path(DOTENV), home_path() / ENV_FILE):
        if path.is_file():
            yield path
