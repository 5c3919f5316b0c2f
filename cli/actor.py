"""The actor of a command, for the audit log."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

from shared.access import service as access

if TYPE_CHECKING:
    from shared.db.pool import Connection

# A container may run under a user id without a name.
NOBODY = "-"


async def current_actor(connection: Connection) -> str:
    """Return `cli:USER@ROLE`: the system user and the database role that opened the connection."""
    return f"cli:{system_user()}@{await access.session_role(connection)}"


def system_user() -> str:
    """Return the name of the system user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return NOBODY
