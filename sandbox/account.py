"""The user that the servers run as: ourselves, or for root an unprivileged one.

PostgreSQL refuses to run as root. No user is ever created: the machine's own will do.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

CANDIDATES = ("postgres", "nobody")
# What `nobody` is nearly everywhere, for a machine whose user list does not name it.
FALLBACK_ID = 65534


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged user that root hands the servers to."""

    uid: int
    gid: int

    def owns(self, path: Path) -> None:
        """Give `path` to this user."""
        os.chown(path, self.uid, self.gid)

    def may(self, permission: str, path: Path) -> bool:
        """Whether this user may read ("r"), enter or run ("x") `path`.

        Asks the kernel, by trying: mode bits alone do not know of ACLs and mount options.
        """
        check = subprocess.run(
            ["/bin/sh", "-c", 'test -"$0" "$1"', permission, path],
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            cwd="/",
            check=False,
        )
        return check.returncode == 0


def server_account(data: Path) -> Account | None:
    """Return the user for the servers whose data is in `data`; None means the current user."""
    if os.geteuid() != 0:
        return None
    # Data that an ordinary user made stays that user's when root starts it (`sudo make up`).
    if data.exists() and (found := data.stat()).st_uid != 0:
        return Account(found.st_uid, found.st_gid)
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    return Account(FALLBACK_ID, FALLBACK_ID)
