"""The machine's process table, as far as starting and stopping servers needs it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Collection
from pathlib import Path

PROC = Path("/proc")
# macOS and the BSDs have no /proc of this kind; there, `ps` and pid files have to do.
HAS_PROC = (PROC / "self" / "stat").exists()
COMMAND_CHARACTERS_MAX = 15  # as long as the kernel keeps a name


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def children_of(pid: int) -> list[int]:
    """Return the processes that `pid` has forked and not yet reaped."""
    if HAS_PROC:
        return [child for child in _processes() if parent_of(child) == pid]
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    pairs = (line.split() for line in listing.stdout.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]


def running_in(folder: Path, commands: Collection[str], pid_file: Path) -> list[int]:
    """Return the processes of a server whose working directory is `folder`.

    A process id in a file proves nothing: after a crash the number may be another program's.
    """
    if not HAS_PROC:
        pid = pid_in(pid_file)
        return [pid] if pid is not None and _command_of(pid) in commands else []
    here = folder.resolve()
    short = {command[:COMMAND_CHARACTERS_MAX] for command in commands}
    return [pid for pid in _processes() if _name_of(pid) in short and _folder_of(pid) == here]


def pid_in(pid_file: Path) -> int | None:
    """Return the process id on the first line of a file."""
    try:
        return int(pid_file.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _processes() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]


def parent_of(pid: int) -> int | None:
    """Return the parent of a process; None where it is gone."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # pid (name) state ppid …: the name may hold spaces and brackets.
    return int(stat.rpartition(")")[2].split()[1])


def _name_of(pid: int) -> str | None:
    try:
        return (PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return None


def _folder_of(pid: int) -> Path | None:
    try:
        return (PROC / str(pid) / "cwd").readlink()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def _command_of(pid: int) -> str:
    found = subprocess.run(
        ["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return Path(found.stdout.strip()).name
