"""Who gives the command, for the audit log."""

from __future__ import annotations

import getpass


def current_actor() -> str:
    """Return `cli:` and the name of the person's account on this machine."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # a container may run under a number that has no name
        return "cli"
