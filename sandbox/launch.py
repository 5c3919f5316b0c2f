"""Turns itself into a server: drops root's rights, ties its life to its parent's, then execs.

Run as `python -I -S launch.py SIGNAL PARENT_PID UID:GID PROGRAM ARGUMENT…` (an empty UID:GID keeps
the user). A program of its own, instead of a `preexec_fn`, keeps Python code out of the fork of a
threaded process. Standard library only: it runs without site-packages.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(death_signal: str, parent: str, account: str, *argv: str) -> None:
    """Become `argv`, which gets `death_signal` as soon as process `parent` is gone."""
    if account:
        uid, gid = map(int, account.split(":"))
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of user, which clears the setting; exec keeps it.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    # A parent that died before the line above sent no signal: we already have another one.
    if os.getppid() != int(parent):
        sys.exit(f"{argv[0]} was not started: the process that asked for it is gone")
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - becoming another program is the whole job
    except OSError as error:
        sys.exit(f"cannot run {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
