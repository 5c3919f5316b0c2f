"""What an endpoint of the billing API declares: the routes, the document and the tests read it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from shared.access import service as audit
from shared.access.model import Actor, Caller, Scope
from shared.errors import NotFoundError, PermissionDeniedError, PrepaidError
from shared.organizations.model import Organization

if TYPE_CHECKING:
    from api.framework.context import Api
    from shared.db.pool import Connection


class Retry(StrEnum):
    """What makes a second request with the same Idempotency-Key harmless."""

    READ = "read"  # a second one does no harm: the header is of no use
    STORED = "stored"  # the answer is kept in the transaction of what it did, and given again
    RESUMED = "resumed"  # Stripe is asked in between: the next try goes on under the same id
    LEDGER = "ledger"  # the ledger's own key does it; what has another key is kept besides


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request that has been let in and read: what a handler is given.

    `id` is the same again for a retry under the same Idempotency-Key; whatever a write creates
    takes it as its id; a read has none. `organization` is the one that the path or the body names,
    if one of them does. `request_id` is the answer's `X-Request-Id`.
    """

    api: Api
    caller: Caller
    id: UUID
    request_id: str
    now: datetime
    path: Mapping[str, str]
    query: Any
    body: Any
    idempotency_key: str | None
    organization: Organization | None
    connection: Connection | None = None

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Give a connection for one statement, which is a transaction of its own.

        Under an Idempotency-Key it is a part of the transaction in which the answer is kept.
        """
        if self.connection is not None:
            yield self.connection
            return
        async with self.api.pool.acquire() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Give a connection in a transaction: the one in which the answer is kept, if it is."""
        async with self.acquire() as connection, connection.transaction():
            yield connection

    @property
    def owner(self) -> Organization:
        """The organization that the path or the body names."""
        assert self.organization is not None  # noqa: S101 - the edge has found it
        return self.organization

    async def find_organization(self, reference: str) -> Organization:
        """Find an organization by id or slug, as far as this key may know of it."""
        return await self.api.organizations.find(reference, self.caller)

    @property
    def actor(self) -> Actor:
        """Who asks, for the audit log."""
        return Actor(self.caller.actor, self.caller.key_id, self.request_id)

    def require(self, scope: Scope, what: str) -> None:
        """Raise PermissionDeniedError where the key lacks a scope that the request needs."""
        if not self.caller.may(scope):
            raise PermissionDeniedError(f"{what} needs a key with the scope {scope}.")

    async def record(
        self,
        connection: Connection,
        action: str,
        *,
        subject: UUID | None = None,
        organization: Organization | None = None,
        reason: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Write into the audit log what this key did, in the transaction of what it did.

        Without a `subject` it is about the organization: that of the request, or the one given.
        """
        owner = organization or self.organization
        about = subject or (owner.id if owner else None)
        assert about is not None  # noqa: S101 - it is about something
        await audit.record(
            connection,
            actor=self.actor,
            action=action,
            subject=str(about),
            organization_id=owner.id if owner else None,
            reason=reason,
            details=details,
        )

    def may_see(self, organization_id: UUID) -> bool:
        """Whether this key may know of an organization's things."""
        return self.caller.organization_id in (None, organization_id)


@dataclass(frozen=True, slots=True)
class Reply:
    """A handler's answer. `replayed`: it is the one of an earlier request with the same key.

    `final`: it stands. One that does not is not kept: the same key is told how things stand then.
    """

    body: Any
    status: int | None = None
    replayed: bool = False
    final: bool = True


Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An endpoint. The handler's docstring is its documentation: first a summary, then the rest.

    `query` and `body` are msgspec Structs that forbid unknown fields, `answer` is the type of the
    body at `status`; `refusals` are the errors that it can give beyond those of every operation.
    `scope` is what a key needs; each of `or_scopes` will do instead, and all of `and_scopes` are
    needed besides. A path with `{organizationId}` or `{slug}` is of that organization: the edge
    answers 404 where there is none, or where the key is another one's.
    """

    name: str
    tag: str
    method: str
    path: str
    handle: Handler
    response: Any
    scope: Scope
    or_scopes: tuple[Scope, ...] = ()
    and_scopes: tuple[Scope, ...] = ()
    query: type | None = None
    body: type | None = None
    status: int = HTTPStatus.OK
    retry: Retry = Retry.READ
    # Whose request it is, where the body says so; the call has it as if the path had named it.
    organization_of: Callable[[Call], Awaitable[Organization]] | None = None
    # Where the ledger's own key may stand in the body; a request without one takes the header's.
    keyed_by: str | None = None
    errors: tuple[type[PrepaidError], ...] = ()
    seconds_max: float = 30.0
    # What a request counts against its key's rate limit, and what its body adds once it is read.
    cost: int = 1
    cost_of_body: Callable[[Any], int] | None = None
    example: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def organization_parameter(self) -> str | None:
        """The name of the path parameter that names an organization, if there is one."""
        return next((n for n in ("organizationId", "slug") if f"{{{n}}}" in self.path), None)

    @cached_property
    def scope_sets(self) -> tuple[tuple[Scope, ...], ...]:
        """The sets of scopes of which a key needs one."""
        return tuple((scope, *self.and_scopes) for scope in (self.scope, *self.or_scopes))

    def allows(self, caller: Caller) -> bool:
        """Whether a key has one of the sets; the handler may need more for what the body says."""
        return any(all(map(caller.may, scopes)) for scopes in self.scope_sets)


def not_found(what: str, reference: str) -> NotFoundError:
    """Return the same refusal for what is not there and for what is another organization's."""
    return NotFoundError(f"There is no {what} {reference[:100]!r}.")
