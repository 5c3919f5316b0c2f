"""Who calls the API, and what a key may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Scope(StrEnum):
    """What a key may do; each may do what those before it may."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def covers(self, needed: Scope) -> bool:
        """Whether a key of this scope may do what needs the other."""
        return _RANKS[self] >= _RANKS[needed]


_RANKS = {scope: rank for rank, scope in enumerate(Scope)}


@dataclass(frozen=True, slots=True)
class Caller:
    """A working API key. `organization_id`: it is of one organization alone; None: of all."""

    key_id: UUID
    scope: Scope
    organization_id: UUID | None
    name: str

    @property
    def actor(self) -> str:
        """What the audit log calls it."""
        return f"key:{self.name}"
