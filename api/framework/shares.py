"""A fair share for each organization and each key: of what is under way, and of the connections.

Whoever asks for more than its share waits for its own requests, and is refused alone where too many
of them wait. The edge says whose request it is; each connection that a handler takes counts.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from shared.errors import UnavailableError

if TYPE_CHECKING:
    from shared.db.pool import Connection, Connections

RETRY_AFTER_SECONDS = 1
# Connections that are left for what many share: debits, balances, keys, webhooks.
SHARED_CONNECTIONS = 4
REQUESTS_MAX, REQUESTS_OF_KEY_MAX, REQUESTS_OF_ORGANIZATION_MAX = 20_000, 10_000, 2_500
WAITING_OF_KEY_MAX, WAITING_OF_ORGANIZATION_MAX = 1_000, 100
SEARCHES_AT_ONCE_MAX = 3
LOOK_UPS_AT_ONCE_MAX = 2


class Tenant(NamedTuple):
    """Whose request it is: the key that sent it, and the organization that it is about."""

    key: Hashable
    organization: Hashable = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How many of all, of a key and of an organization are let in at once, and how many wait."""

    at_once_max: int
    of_key_max: int
    of_organization_max: int
    waiting_of_key_max: int = WAITING_OF_KEY_MAX
    waiting_of_organization_max: int = WAITING_OF_ORGANIZATION_MAX


NOBODY = Tenant(key=None)
_tenant: ContextVar[Tenant] = ContextVar("tenant", default=NOBODY)


@contextmanager
def acting_for(tenant: Tenant) -> Iterator[None]:
    """Count what is taken inside as this tenant's."""
    token = _tenant.set(tenant)
    try:
        yield
    finally:
        _tenant.reset(token)


class FairShare:
    """Lets a few in at once; the tenants that wait take turns.

    A tenant waits where its organization, its key or all together are at their limits. Nobody
    waits for a limit that is not theirs.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._inside = 0
        self._of_key: Counter[Hashable] = Counter()
        self._of_organization: Counter[Hashable] = Counter()
        # Those who wait, by tenant; the one whose turn is next stands first.
        self._waiting: dict[Tenant, deque[asyncio.Future[None]]] = {}
        self._waiting_of_key: Counter[Hashable] = Counter()
        self._waiting_of_organization: Counter[Hashable] = Counter()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the tenant's turn; raise UnavailableError where too many of its own wait."""
        tenant = _tenant.get()
        if self._has_room(tenant):
            self.enter(tenant)
        else:
            await self._wait(tenant)
        try:
            yield
        finally:
            self.leave(tenant)

    def enter_now(self, tenant: Tenant) -> None:
        """Enter; raise UnavailableError where that would mean to wait."""
        if not self._has_room(tenant):
            raise _too_many()
        self.enter(tenant)

    def enter(self, tenant: Tenant) -> None:
        """Count one in."""
        self._inside += 1
        _count(self._of_key, tenant.key, 1)
        _count(self._of_organization, tenant.organization, 1)

    def leave(self, tenant: Tenant) -> None:
        """Count one out, and let in whoever has room now."""
        self._inside -= 1
        _count(self._of_key, tenant.key, -1)
        _count(self._of_organization, tenant.organization, -1)
        for other in [*self._waiting] if self._waiting else ():
            if self._inside >= self._limits.at_once_max:
                return
            self._let_in(other)

    def _has_room(self, tenant: Tenant) -> bool:
        limits = self._limits
        return (
            self._inside < limits.at_once_max
            and self._of_key[tenant.key] < limits.of_key_max
            and (
                tenant.organization is None
                or self._of_organization[tenant.organization] < limits.of_organization_max
            )
        )

    async def _wait(self, tenant: Tenant) -> None:
        if self._waiting_of_key[tenant.key] >= self._limits.waiting_of_key_max or (
            tenant.organization is not None
            and self._waiting_of_organization[tenant.organization]
            >= self._limits.waiting_of_organization_max
        ):
            raise _too_many()
        entry: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(entry)
        _count(self._waiting_of_key, tenant.key, 1)
        _count(self._waiting_of_organization, tenant.organization, 1)
        try:
            await entry
        except asyncio.CancelledError:
            if entry.done() and not entry.cancelled():  # it was let in, and is gone
                self.leave(tenant)
            else:
                self._forget(tenant, entry)
            raise
        finally:
            _count(self._waiting_of_key, tenant.key, -1)
            _count(self._waiting_of_organization, tenant.organization, -1)

    def _let_in(self, tenant: Tenant) -> None:
        """Let in the first of a tenant that waits, if there is room; its next turn comes last."""
        if not self._has_room(tenant):
            return
        waiting = self._waiting.pop(tenant)
        while waiting:
            entry = waiting.popleft()
            if entry.cancelled():  # its task has not run since
                continue
            if waiting:
                self._waiting[tenant] = waiting
            self.enter(tenant)
            entry.set_result(None)
            return

    def _forget(self, tenant: Tenant, entry: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(tenant, deque())
        if entry in waiting:
            waiting.remove(entry)
        if not waiting:
            self._waiting.pop(tenant, None)


class SharedPool:
    """Gives connections of a pool, to each tenant its share."""

    def __init__(self, pool: Connections, limits: Limits) -> None:
        self._pool = pool
        self._share = FairShare(limits)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Give a connection, in the tenant's turn."""
        async with self._share.turn(), self._pool.acquire() as connection:
            yield connection


def connection_limits(pool_size: int) -> Limits:
    """Return the limits of what takes connections of its own."""
    at_once_max = max(1, pool_size - SHARED_CONNECTIONS)
    return Limits(
        at_once_max=at_once_max,
        of_key_max=max(1, at_once_max - 1),
        of_organization_max=max(1, min(at_once_max - 1, pool_size // 3)),
    )


def search_limits(pool_size: int) -> Limits:
    """Return the limits of reads that may look through a whole ledger."""
    at_once_max = max(1, min(SEARCHES_AT_ONCE_MAX, pool_size // 3))
    return Limits(
        at_once_max=at_once_max, of_key_max=max(1, at_once_max - 1), of_organization_max=1
    )


LOOK_UP_LIMITS = Limits(
    at_once_max=LOOK_UPS_AT_ONCE_MAX, of_key_max=1, of_organization_max=LOOK_UPS_AT_ONCE_MAX
)
REQUEST_LIMITS = Limits(
    at_once_max=REQUESTS_MAX,
    of_key_max=REQUESTS_OF_KEY_MAX,
    of_organization_max=REQUESTS_OF_ORGANIZATION_MAX,
)


def _count(counter: Counter[Hashable], name: Hashable, by: int) -> None:
    """Count by name, and remember no name that nothing is counted of."""
    if name is None:
        return
    found = counter[name] + by
    if found:
        counter[name] = found
    else:
        del counter[name]


def _too_many() -> UnavailableError:
    return UnavailableError(
        "Too many requests of this organization or key are under way; try again.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
