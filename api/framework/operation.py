"""The declaration of an endpoint, from which routes, OpenAPI document and tests are made."""

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
    """How a repeated request with the same Idempotency-Key is made safe."""

    READ = "read"  # reading changes nothing: the header is ignored
    STORED = "stored"  # the response is stored with its effects, in one transaction
    RESUMED = "resumed"  # Stripe is called in between: a retry continues under the same id
    LEDGER = "ledger"  # the ledger's key is unique; a response under another key is stored as well


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """An authorized and parsed request, passed to its handler.

    `id` is equal for every retry under the same Idempotency-Key, and becomes the id of what a write
    creates; a read has none. `organization` is the one that the path or the body names, if any.
    `request_id` is the `X-Request-Id` of the response. `prefers_csv`: the `Accept` header names CSV
    and no JSON.
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
    prefers_csv: bool = False
    connection: Connection | None = None

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Yield a connection for a single statement, which is its own transaction.

        Under an Idempotency-Key, it is part of the transaction in which the response is stored.
        """
        if self.connection is not None:
            yield self.connection
            return
        async with self.api.pool.acquire() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Yield a connection in a transaction: that of the stored response, if it is stored."""
        async with self.acquire() as connection, connection.transaction():
            yield connection

    @property
    def owner(self) -> Organization:
        """The organization that the path or the body names."""
        assert self.organization is not None  # noqa: S101 - the edge has set it
        return self.organization

    async def find_organization(self, reference: str) -> Organization:
        """Return an organization by id or slug; raise NotFoundError if this key may not see it."""
        return await self.api.organizations.find(reference, self.caller)

    @property
    def actor(self) -> Actor:
        """The caller, for the audit log."""
        return Actor(self.caller.actor, self.caller.key_id, self.request_id)

    def require(self, scope: Scope, what: str) -> None:
        """Raise PermissionDeniedError if the key lacks a required scope."""
        if not self.caller.may(scope):
            raise PermissionDeniedError(f"{what} requires a key with the scope {scope}.")

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
        """Write an audit entry for this key, in the transaction of the effect.

        The default `subject` is the organization: `organization`, else that of the request.
        """
        owner = organization or self.organization
        about = subject or (owner.id if owner else None)
        assert about is not None  # noqa: S101 - one of them is set
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
        """Whether this key may see an organization's data."""
        return self.caller.organization_id in (None, organization_id)


@dataclass(frozen=True, slots=True)
class Reply:
    """A handler's response: a JSON value, a `Csv` or a `CsvStream`.

    `replayed`: it repeats that of an earlier request with the same key.

    A response that is not `final` is not stored: a retry gets the state at that time.
    """

    body: Any
    status: int | None = None
    replayed: bool = False
    final: bool = True


Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An endpoint. The handler's docstring is its documentation: a summary, then a description.

    `query` and `body` are msgspec Structs that forbid unknown fields, `response` is the type of the
    response body at `status`, None where it is never JSON; `media` are the types that a response
    may have, the default first; `errors` are those beyond the errors of every operation. A key
    needs `scope` or one of `or_scopes`, and all of `and_scopes`. For a path with `{organizationId}`
    or `{slug}`, the edge finds the organization, and returns 404 if there is none or the key is
    bound to another.
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
    media: tuple[str, ...] = ("application/json",)
    status: int = HTTPStatus.OK
    retry: Retry = Retry.READ
    # Finds the organization of a request that names it in the body.
    organization_of: Callable[[Api, Caller, Any], Awaitable[Organization]] | None = None
    # The body field with the ledger's key; without a value, Idempotency-Key takes its place.
    keyed_by: str | None = None
    errors: tuple[type[PrepaidError], ...] = ()
    seconds_max: float = 30.0
    # Sent for every use of credits: its route is tried before others with the same beginning, the
    # lowest rank first. None: after those.
    route_rank: int | None = None
    # The units of a request in its key's rate limit, and those that the parsed body adds.
    cost: int = 1
    cost_of_body: Callable[[Any], int] | None = None
    example: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def organization_parameter(self) -> str | None:
        """The path parameter that names an organization, if any."""
        return next((n for n in ("organizationId", "slug") if f"{{{n}}}" in self.path), None)

    @cached_property
    def scope_sets(self) -> tuple[tuple[Scope, ...], ...]:
        """The alternative sets of scopes; a key needs all scopes of one set."""
        return tuple((scope, *self.and_scopes) for scope in (self.scope, *self.or_scopes))

    @cached_property
    def _allowing(self) -> tuple[frozenset[Scope], ...]:
        return (frozenset({Scope.ADMIN}), *map(frozenset, self.scope_sets))

    def allows(self, caller: Caller) -> bool:
        """Whether a key has one of the sets. The handler may require more."""
        return any(scopes <= caller.scopes for scopes in self._allowing)


def not_found(what: str, reference: str) -> NotFoundError:
    """Return the same NotFoundError for a missing object as for another organization's."""
    return NotFoundError(f"There is no {what} {reference[:100]!r}.")
