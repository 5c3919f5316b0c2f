"""The resources of the console, and a visit: one request of a signed-in browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aiohttp import web

from console.framework import rendering
from console.framework.connections import ConnectionShare
from console.framework.navigation import Groups
from console.framework.signing import Signer
from shared.access.console.model import ConsoleSession
from shared.access.model import Actor
from shared.config import Settings
from shared.errors import NotFoundError, PermissionDeniedError, ValidationError
from shared.http.deadlines import Deadlines
from shared.ids import new_id
from shared.printable import is_visible
from shared.token_bucket import TokenBucket, TokenBuckets

if TYPE_CHECKING:
    from shared.db.pool import Connection
    from shared.payments.gateway import StripeGateway

REASON_LENGTH_MAX = 500
READ_ONLY = (
    "Your session may view and not act. Sign in with a key that has the scope admin to do this."
)
SIGN_INS_PER_SECOND = 0.2
SIGN_INS_BURST = 20
AUDITED_REFUSALS_PER_SECOND = 1 / 60
AUDITED_REFUSALS_BURST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """The resources of the console. Clock and id factory are injected.

    `navigation`: the links to the pages that exist; `bound_navigation`: those of bound sessions.
    `sign_ins` limits failed sign-ins by address, `audited_refusals` their entries in the audit log.
    `replays`: held during a replay or its preview.
    """

    settings: Settings
    pool: ConnectionShare
    stripe: StripeGateway
    signer: Signer
    navigation: Groups
    bound_navigation: Groups
    deadlines: Deadlines = field(default_factory=Deadlines)
    sign_ins: TokenBuckets[str] = field(
        default_factory=lambda: TokenBuckets(SIGN_INS_PER_SECOND, SIGN_INS_BURST)
    )
    audited_refusals: TokenBucket = field(
        default_factory=lambda: TokenBucket(AUDITED_REFUSALS_PER_SECOND, AUDITED_REFUSALS_BURST)
    )
    replays: asyncio.Lock = field(default_factory=asyncio.Lock)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    make_id: Callable[[], UUID] = new_id

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach this installation over TLS, so that cookies need it."""
        return self.settings.public_url.startswith("https://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request of a signed-in browser: its session, and what it sent."""

    console: Console
    session: ConsoleSession
    csrf: str
    request_id: str
    now: datetime
    address: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]
    flash: rendering.Flash | None = None

    @property
    def actor(self) -> Actor:
        """The actor of what this visit does, for the audit log."""
        return self.session.actor(self.request_id)

    @property
    def organization_id(self) -> UUID | None:
        """The one organization that the session is bound to; None: all of them."""
        return self.session.identity.organization_id

    @property
    def navigation(self) -> Groups:
        """The links of the navigation for this session."""
        bound = self.organization_id is not None
        return self.console.bound_navigation if bound else self.console.navigation

    def check_organization(self, organization_id: UUID | None) -> None:
        """Raise NotFoundError where a bound session may not see what is of this organization."""
        if self.organization_id not in {None, organization_id}:
            raise NotFoundError("There is no such page.")

    def check_operator(self) -> None:
        """Raise PermissionDeniedError for a session that may only view."""
        if not self.session.may_operate:
            raise PermissionDeniedError(READ_ONLY)

    def path_id(self, name: str) -> UUID:
        """Return an id of the path; raise NotFoundError where it is not a UUID."""
        try:
            return UUID(self.path[name])
        except ValueError:
            raise NotFoundError("There is no such page.") from None

    def reason(self) -> str:
        """Return the reason of an act; raise ValidationError where it is missing or too long."""
        reason = self.form.get("reason", "").strip()
        if len(reason) > REASON_LENGTH_MAX or not is_visible(reason):
            raise ValidationError(
                f"Give a reason of 1 to {REASON_LENGTH_MAX} characters: it goes into the audit log."
            )
        return reason

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """Yield a connection for reads."""
        async with self.console.pool.acquire() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Yield a connection in a transaction, for an act and its audit entry."""
        async with self.console.pool.acquire() as connection, connection.transaction():
            yield connection

    def render(
        self,
        template: str,
        *,
        title: str,
        breadcrumbs: Sequence[tuple[str, str]] = (),
        status: int = 200,
        **values: Any,
    ) -> web.Response:
        """Return a page: a template of `templates/` with these values.

        `breadcrumbs`: (label, path) of the pages above this one; the overview is added.
        """
        return rendering.page(
            template, status=status, visit=self, title=title, breadcrumbs=breadcrumbs, **values
        )

    def redirect(self, path: str, message: str, *, kind: str = "done") -> web.Response:
        """Return the answer to an act: 303 to a page, which shows the message once."""
        response = web.Response(status=303, headers={"Location": path})
        rendering.set_flash(
            response, self.console.signer, message, kind, secure=self.console.is_secure
        )
        return response
