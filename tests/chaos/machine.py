"""What this machine allows of the faults that need a small disk or another clock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.plan import NEEDS_A_MACHINE, FaultKind

DISK_BYTES = 640 * 1024**2
MEMORY_FREE_BYTES_MIN = 2 * DISK_BYTES  # a full disk of memory is memory that nobody else has
MEMORY = Path("/dev/shm")  # noqa: S108 - only its free space is read
FAKETIME = "faketime/libfaketime.so.1"
LIBRARIES = (Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib"))
# Set for the run inside of namespaces of its own: what it mounts and starts goes with it, however
# it ends.
INSIDE = "CHAOS_OWN_NAMESPACES"
NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


@dataclass(frozen=True, slots=True)
class Machine:
    """Which faults this machine can bear, and why it cannot bear the others."""

    faketime: Path | None
    small_disk: bool
    left_out: dict[FaultKind, str] = field(default_factory=dict)

    @property
    def kinds(self) -> frozenset[FaultKind]:
        """The kinds of faults of a run here."""
        return frozenset(FaultKind) - self.left_out.keys()


def look() -> Machine:
    """Find out what this machine allows."""
    faketime = _faketime()
    disk = _no_small_disk()
    left_out: dict[FaultKind, str] = {}
    if faketime is None:
        left_out[FaultKind.STEP_CLOCK] = "libfaketime is not installed (apt-get install faketime)"
    if disk is not None:
        left_out[FaultKind.FILL_DISK] = disk
    assert left_out.keys() <= NEEDS_A_MACHINE
    return Machine(faketime, small_disk=disk is None, left_out=left_out)


def enter_own_namespaces() -> None:
    """Start this program again where its mounts and processes are its own, if that is possible."""
    unshare = shutil.which("unshare")
    if INSIDE in os.environ or unshare is None or os.geteuid() != 0:
        return
    tried = subprocess.run([unshare, *NAMESPACES, "true"], capture_output=True, check=False)
    if tried.returncode:
        return
    arguments = [unshare, *NAMESPACES, sys.executable, "-m", "tests.chaos", *sys.argv[1:]]
    os.execve(unshare, arguments, os.environ | {INSIDE: "1"})  # noqa: S606 - the same program again


def mount_small_disk(folder: Path) -> None:
    """Mount a disk of DISK_BYTES at a folder."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0755", "none", folder], check=True
    )


def unmount_small_disk(folder: Path) -> None:
    """Unmount it as soon as nothing uses it, so that the folder can be deleted."""
    subprocess.run(["umount", "--lazy", folder], check=False)


def _faketime() -> Path | None:
    for folder in LIBRARIES:
        for found in (folder / FAKETIME, *folder.glob(f"*/{FAKETIME}")):
            if found.exists():
                return found
    return None


def _no_small_disk() -> str | None:
    """Return why no small disk can be mounted; None: it can."""
    if os.geteuid() != 0:
        return "only root can mount a small disk"
    if INSIDE not in os.environ:
        return "this machine gives no namespaces (unshare)"
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < MEMORY_FREE_BYTES_MIN:
        return f"less than {MEMORY_FREE_BYTES_MIN // 1024**2} MiB of memory are free for a disk"
    return None
