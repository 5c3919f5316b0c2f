"""Sessions of the operator console, and the roles that they have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from shared.access.model import Actor, Caller, Scope

IDLE_LIFETIME = timedelta(hours=1)
ABSOLUTE_LIFETIME = timedelta(hours=12)
LINK_LIFETIME = timedelta(minutes=10)
# How stale `last_seen_at` may be: a session is not written on each request.
SEEN_INTERVAL = timedelta(minutes=1)


class Role(StrEnum):
    """What a session may do in the console."""

    VIEW = "view"
    OPERATE = "operate"  # view and act


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who signs in, with which rights; `organization_id` None: all organizations."""

    actor: str
    role: Role
    organization_id: UUID | None = None
    key_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSession:
    """A signed-in browser."""

    id: UUID
    identity: Identity
    created_at: datetime
    expires_at: datetime

    @property
    def may_operate(self) -> bool:
        """Whether it may act, and not view alone."""
        return self.identity.role is Role.OPERATE

    def actor(self, request_id: str) -> Actor:
        """Return the actor for the audit log."""
        return Actor(self.identity.actor, self.identity.key_id, request_id)


def role_of(caller: Caller) -> Role | None:
    """Return the role that a key has in the console; None where it may not sign in.

    `admin` operates, `read` views. A browser session of a customer's app is no operator.
    """
    if caller.is_session:
        return None
    if Scope.ADMIN in caller.scopes:
        return Role.OPERATE
    return Role.VIEW if Scope.READ in caller.scopes else None
