"""The servers' data, stored by root outside a home that the servers' user cannot reach.

A checkout under /root, for example, is closed to that user. Folders of other users keep their
modes: the data goes to /var/tmp instead, the home links to it, and a file there names its home.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
from pathlib import Path

from sandbox.account import Account
from shared.errors import PrepaidError

LINK = "outside"
BASE = Path("/var/tmp")  # noqa: S108 - every folder in it is checked to be ours
PREFIX = "prepaid-"
OWNER = "home"
ORPHAN_SECONDS_MIN = 24 * 60 * 60

# The servers' user passes through a folder of root's, but cannot list it.
PASSABLE = 0o711


class HomeError(PrepaidError):
    """The folder of the embedded servers cannot be used."""


def place_for(home: Path, account: Account) -> Path:
    """Return the name of the place for a home's data; what a deleted home left there goes."""
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    place = BASE / f"{PREFIX}{digest}-{account.uid}"
    if os.path.lexists(place):
        shutil.rmtree(_owned(place))
    return place


def prepare(place: Path, home: Path) -> Path:
    """Make the place unless it is there (somebody may have cleaned /var/tmp since)."""
    if not os.path.lexists(place):
        place.mkdir()
        place.chmod(PASSABLE)
    # Written at every start: the home may have moved, and its age says when it was last used.
    (_owned(place) / OWNER).write_bytes(os.fsencode(home))
    return place


def remove_orphans() -> None:
    """Delete the places whose homes were deleted: nobody else would ever find that data.

    Not the ones used lately: a home that was moved only says so at its next start.
    """
    for owner in BASE.glob(f"{PREFIX}*/{OWNER}"):
        place = owner.parent
        try:
            link = Path(os.fsdecode(owner.read_bytes())) / LINK
            claimed = link.is_symlink() and link.readlink() == place
            unused_seconds = time.time() - owner.stat().st_mtime
            if claimed or unused_seconds < ORPHAN_SECONDS_MIN or not _is_owned(place):
                continue
        except OSError:
            continue  # another start has just deleted it, or it is not ours to read
        shutil.rmtree(place, ignore_errors=True)


def _owned(place: Path) -> Path:
    """Refuse a folder that another user planted under a name that anybody can work out."""
    if not _is_owned(place):
        raise HomeError(f"{place} is not a folder of this user; remove it")
    return place


def _is_owned(place: Path) -> bool:
    found = place.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
