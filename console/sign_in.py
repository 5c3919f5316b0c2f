"""Sign-in with an API key or a one-time link, and sign-out."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from uuid import UUID

import structlog
from aiohttp import web

from console.framework import cookies, rendering
from console.framework.context import Console, Visit
from console.framework.edge import SIGN_IN_PATH, guarded, read_form
from console.framework.page import ROOT, Page, post
from shared.access import service as access
from shared.access.console import store
from shared.access.console.model import Identity, role_of
from shared.access.model import Actor
from shared.errors import RateLimitError
from shared.http.middleware import REQUEST_ID_KEY

log = structlog.get_logger()

NOBODY = "console:-"
_KEY = re.compile(access.KEY_PREFIX + r"[A-Za-z0-9_-]{20,100}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{20,100}")
RETURN_LENGTH_MAX = 1_000
UNKNOWN_KEY = "This API key does not exist, was revoked, or has expired."
NO_ROLE = "This key may not open the console: it needs the scope admin (to act) or read (to view)."
ENDED_LINK = (
    "This link does not exist, was used, or has expired: it works once, for ten minutes. Make"
    " another with prepaid console link, or sign in with an API key."
)


@dataclass(frozen=True, slots=True)
class SignIn:
    """The pages without a session."""

    console: Console

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        link = f"{SIGN_IN_PATH}/{{token}}"
        return [
            web.get(SIGN_IN_PATH, guarded(self.console, self.show)),
            web.post(SIGN_IN_PATH, guarded(self.console, self.with_key)),
            web.get(link, guarded(self.console, self.show_link)),
            web.post(link, guarded(self.console, self.with_link)),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """Show the form."""
        return self._form(request.query.get("return", ""))

    async def with_key(self, request: web.Request) -> web.Response:
        """Sign in with an API key. Only failures count against the limit of the address."""
        form = await read_form(request)
        key, target = form.get("key", "").strip(), form.get("return", "")
        if not _KEY.fullmatch(key):
            return self._form(target, f"An API key begins with {access.KEY_PREFIX}.", status=422)
        async with self.console.pool.acquire() as connection:
            found = await access.find_callers(connection, [access.digest(key)])
        caller = found.get(access.digest(key))
        if caller is None:
            await self._count_failure(request, "unknown key")
            return self._form(target, UNKNOWN_KEY, status=401)
        role, actor = role_of(caller), f"console:{caller.name}"
        if role is None:
            await self._count_failure(request, "scope", actor, caller.key_id)
            return self._form(target, NO_ROLE, status=403)
        identity = Identity(
            actor=actor,
            role=role,
            organization_id=caller.organization_id,
            key_id=caller.key_id,
        )
        return await self._open(request, identity, target)

    async def show_link(self, request: web.Request) -> web.Response:
        """Show a button: what previews links in a chat or a mail sends GET, and uses none up."""
        return rendering.page(
            "sign_in_link.html",
            status=200,
            visit=None,
            title="Sign in",
            action=f"{SIGN_IN_PATH}/{request.match_info['token']}",
        )

    async def with_link(self, request: web.Request) -> web.Response:
        """Sign in with a one-time link, and use it up."""
        await read_form(request)
        token, identity = request.match_info["token"], None
        if _TOKEN.fullmatch(token):
            async with self.console.pool.acquire() as connection:
                identity = await store.use_link(connection, token, now=self.console.now())
        if identity is None:
            await self._count_failure(request, "ended link")
            return self._form("", ENDED_LINK, status=403)
        return await self._open(request, identity, "")

    async def _count_failure(
        self, request: web.Request, cause: str, actor: str = NOBODY, key_id: UUID | None = None
    ) -> None:
        """Log and audit a failed sign-in; raise RateLimitError after too many of an address.

        The audit log is never deleted from, so that a flood writes a limited number of entries.
        """
        console = self.console
        wait = console.sign_ins.take(request.remote or "")
        if wait:
            raise RateLimitError(
                "Too many failed sign-ins from this address. Try again in a few seconds.",
                retry_after_seconds=math.ceil(wait),
            )
        request_id = request[REQUEST_ID_KEY]
        log.warning("console.sign_in_refused", cause=cause, actor=actor, request_id=request_id)
        if console.audited_refusals.take() == 0:
            async with console.pool.acquire() as connection:
                await access.record(
                    connection,
                    actor=Actor(actor, key_id, request_id),
                    action="console.sign_in_refused",
                    subject=cause,
                )

    async def _open(self, request: web.Request, identity: Identity, target: str) -> web.Response:
        console, token = self.console, store.new_token()
        session_id = console.make_id()
        async with console.pool.acquire() as connection, connection.transaction():
            await store.open_session(connection, session_id, token, identity, now=console.now())
            await access.record(
                connection,
                actor=Actor(identity.actor, identity.key_id, request[REQUEST_ID_KEY]),
                action="console.sign_in",
                subject=str(session_id),
                organization_id=identity.organization_id,
                details={"role": identity.role},
            )
        response = web.Response(status=303, headers={"Location": local_path(target)})
        cookies.set_session(response, console.signer, token, secure=console.is_secure)
        return response

    def _form(self, target: str, problem: str = "", *, status: int = 200) -> web.Response:
        return rendering.page(
            "sign_in.html",
            status=status,
            visit=None,
            title="Sign in",
            problem=problem,
            action=SIGN_IN_PATH,
            target=local_path(target),
        )


def local_path(target: str) -> str:
    """Return a path of the console, with its query; the overview for any other address."""
    try:
        url = urlsplit(target)
    except ValueError:
        return ROOT
    inside = url.path == ROOT or url.path.startswith(f"{ROOT}/")
    plain = target.isascii() and target.isprintable() and len(target) <= RETURN_LENGTH_MAX
    inside = inside and "/." not in unquote(url.path)  # a browser resolves dots, %2e too
    safe = inside and plain and not url.scheme and not url.netloc and "\\" not in target
    return target if safe and not url.path.startswith(SIGN_IN_PATH) else ROOT


async def sign_out(visit: Visit) -> web.Response:
    """End the session."""
    async with visit.transaction() as connection:
        await store.end_session(connection, visit.session.id)
    response = web.Response(status=303, headers={"Location": SIGN_IN_PATH})
    cookies.delete_session(response)
    return response


SIGN_OUT: Page = post("/sign-out", sign_out, for_bound_keys=True, viewers_may=True)
