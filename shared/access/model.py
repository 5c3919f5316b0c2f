"""Callers of the API, their scopes, and actors of the audit log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Scope(StrEnum):
    """A right of a key. A key has a set of them; `admin` includes all others."""

    __hash__ = str.__hash__  # that of enums is a Python function

    USAGE = "usage"  # debits, holds, balance
    PURCHASES = "purchases"  # checkout, top-up, portal, card set-up
    GRANTS = "grants"  # grants, adjustments, voids, overdraft beyond the limit
    BILLING = "billing"  # settings, consent, resume, cancel
    READ = "read"
    ADMIN = "admin"


# `write` is short for these.
WRITE = "write"
WRITE_SCOPES = frozenset(Scope) - {Scope.ADMIN}
# The scopes of a browser session (`POST /v1/billing/sessions`).
SESSION_SCOPES = frozenset({Scope.READ, Scope.PURCHASES})
SCOPE_NAMES = ("usage", "purchases", "grants", "billing", "read", WRITE, "admin")


def parse_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Parse names of scopes; `write` is expanded.

    Raises ValueError for an unknown name or an empty set.
    """
    scopes: set[Scope] = set()
    for name in names:
        scopes |= WRITE_SCOPES if name == WRITE else {Scope(name)}
    if not scopes:
        raise ValueError("no scope")
    return frozenset(scopes)


def scopes_text(scopes: frozenset[Scope]) -> str:
    """Format a set of scopes: `admin`, `write`, or comma-separated names."""
    if Scope.ADMIN in scopes:
        return Scope.ADMIN
    if scopes == WRITE_SCOPES:
        return WRITE
    return ",".join(scope for scope in Scope if scope in scopes)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, for the audit log: a name, and the API key and request where there are any."""

    name: str
    key_id: UUID | None = None
    request_id: str | None = None

    def __str__(self) -> str:
        """Return the name alone."""
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A valid API key, or a browser session that such a key opened.

    `organization_id`: bound to one organization; None: all of them. A session has the id and the
    name of the key that opened it.
    """

    key_id: UUID
    scopes: frozenset[Scope]
    organization_id: UUID | None
    name: str
    expires_at: datetime | None = None
    is_session: bool = False

    def may(self, scope: Scope) -> bool:
        """Whether its scopes include this one."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def actor(self) -> str:
        """Its name in the audit log."""
        return f"{'session' if self.is_session else 'key'}:{self.name}"

    @property
    def limited_as(self) -> UUID:
        """The key or organization whose rate limit and connection share a request counts against.

        All sessions of one organization share one limit, apart from the key's, so that browsers
        can exhaust neither the key's limit nor, with many sessions, more than one share.
        """
        if self.is_session and self.organization_id is not None:
            return self.organization_id
        return self.key_id
