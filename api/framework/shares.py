"""Fair shares by organization and by key: of requests in progress and of database connections.

A tenant over its share waits for its own requests, and is refused when too many of them wait; other
tenants are not affected. The edge sets the tenant of a request; every connection that a handler
acquires counts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from shared.errors import UnavailableError

if TYPE_CHECKING:
    from shared.db.pool import Connection, Connections

RETRY_AFTER_SECONDS = 1
# Connections reserved for shared statements: debits, balances, keys, webhooks.
SHARED_CONNECTIONS = 4
REQUESTS_MAX, REQUESTS_OF_KEY_MAX, REQUESTS_OF_ORGANIZATION_MAX = 20_000, 10_000, 2_500
WAITING_OF_KEY_MAX, WAITING_OF_ORGANIZATION_MAX = 1_000, 100
SEARCHES_AT_ONCE_MAX = 3
LOOK_UPS_AT_ONCE_MAX = 2


class Tenant(NamedTuple):
    """The tenant of a request: the key that sent it, and the organization that it names."""

    key: Hashable
    organization: Hashable = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Concurrency limits in total, by key and by organization, and limits of the waiting."""

    at_once_max: int
    of_key_max: int
    of_organization_max: int
    waiting_of_key_max: int = WAITING_OF_KEY_MAX
    waiting_of_organization_max: int = WAITING_OF_ORGANIZATION_MAX


# How many there are by name: a name with none is absent.
_Counts = dict[Hashable, int]
NO_TENANT = Tenant(key=None)
_tenant: ContextVar[Tenant] = ContextVar("tenant", default=NO_TENANT)


def act_for(tenant: Tenant) -> None:
    """Attribute what the current task acquires from now on to this tenant.

    Never taken back, since each request has a task of its own.
    """
    _tenant.set(tenant)


def current_tenant() -> Tenant:
    """Return the tenant that what is acquired now is attributed to."""
    return _tenant.get()


@contextmanager
def acting_for_all(tenants: Sequence[Tenant]) -> Iterator[None]:
    """Attribute what is acquired inside to tenants that share it.

    It counts for what they have in common: the work of several keys for none of them.
    """
    keys, organizations = (set(names) for names in zip(*tenants, strict=True))
    token = _tenant.set(
        Tenant(
            key=keys.pop() if len(keys) == 1 else None,
            organization=organizations.pop() if len(organizations) == 1 else None,
        )
    )
    try:
        yield
    finally:
        _tenant.reset(token)


class FairShare:
    """A concurrency limit with round-robin between waiting tenants.

    A tenant waits while its organization, its key or the total is at its limit, and never for the
    limit of another organization or key.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._inside = 0
        self._of_key: _Counts = {}
        self._of_organization: _Counts = {}
        # The waiting requests by tenant, the tenant with the next turn first.
        self._waiting: dict[Tenant, deque[asyncio.Future[None]]] = {}
        self._waiting_of_key: _Counts = {}
        self._waiting_of_organization: _Counts = {}

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the tenant's turn; raise UnavailableError if too many of its requests wait."""
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
        """Enter without waiting; raise UnavailableError if there is no room."""
        if not self._has_room(tenant):
            raise _too_many()
        self.enter(tenant)

    def enter(self, tenant: Tenant) -> None:
        """Count an entry."""
        self._inside += 1
        _count(self._of_key, tenant.key, 1)
        _count(self._of_organization, tenant.organization, 1)

    def leave(self, tenant: Tenant) -> None:
        """Count an exit, and admit waiting requests that have room now."""
        self._inside -= 1
        _count(self._of_key, tenant.key, -1)
        _count(self._of_organization, tenant.organization, -1)
        for other in [*self._waiting] if self._waiting else ():
            if self._inside >= self._limits.at_once_max:
                return
            self._admit(other)

    def _has_room(self, tenant: Tenant) -> bool:
        limits = self._limits
        return (
            self._inside < limits.at_once_max
            and self._of_key.get(tenant.key, 0) < limits.of_key_max
            and self._of_organization.get(tenant.organization, 0) < limits.of_organization_max
        )

    async def _wait(self, tenant: Tenant) -> None:
        limits = self._limits
        if (
            self._waiting_of_key.get(tenant.key, 0) >= limits.waiting_of_key_max
            or self._waiting_of_organization.get(tenant.organization, 0)
            >= limits.waiting_of_organization_max
        ):
            raise _too_many()
        entry: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(entry)
        _count(self._waiting_of_key, tenant.key, 1)
        _count(self._waiting_of_organization, tenant.organization, 1)
        try:
            await entry
        except asyncio.CancelledError:
            if entry.done() and not entry.cancelled():  # admitted, then cancelled
                self.leave(tenant)
            else:
                self._forget(tenant, entry)
            raise
        finally:
            _count(self._waiting_of_key, tenant.key, -1)
            _count(self._waiting_of_organization, tenant.organization, -1)

    def _admit(self, tenant: Tenant) -> None:
        """Admit the first waiting request of a tenant if there is room; the tenant goes last."""
        if not self._has_room(tenant):
            return
        waiting = self._waiting.pop(tenant)
        while waiting:
            entry = waiting.popleft()
            if entry.cancelled():  # cancelled, and its task has not run yet
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
    """A connection pool with a fair share for each tenant."""

    def __init__(self, pool: Connections, limits: Limits) -> None:
        self._pool = pool
        self._share = FairShare(limits)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Yield a connection in the tenant's turn."""
        async with self._share.turn(), self._pool.acquire() as connection:
            yield connection


def connection_limits(pool_size: int) -> Limits:
    """Return the limits of requests that acquire a connection of their own."""
    at_once_max = max(1, pool_size - SHARED_CONNECTIONS)
    return Limits(
        at_once_max=at_once_max,
        of_key_max=max(1, at_once_max - 1),
        of_organization_max=max(1, min(at_once_max - 1, pool_size // 3)),
    )


def search_limits(pool_size: int) -> Limits:
    """Return the limits of searches that may read a whole ledger."""
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


def _count(counts: _Counts, name: Hashable, by: int) -> None:
    """Add to a count by name, and drop a name whose count is 0. None is not counted."""
    if name is None:
        return
    count = counts.get(name, 0) + by
    if count:
        counts[name] = count
    else:
        del counts[name]


def _too_many() -> UnavailableError:
    return UnavailableError(
        "Too many requests of this organization or key are in progress. Retry later.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
