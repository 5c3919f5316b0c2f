"""Authentication: which key a request carries, and whether it still works."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import web

from api.recent import Recent
from shared.access import service as access
from shared.access.model import Caller
from shared.errors import AuthenticationError

if TYPE_CHECKING:
    from shared.db.pool import Pool

# A key that was revoked works at most this much longer.
REMEMBERED_SECONDS = 3.0
_FORM = re.compile(access.KEY_PREFIX + r"[A-Za-z0-9_-]{20,100}")
_HOW = "Send Authorization: Bearer KEY, or x-api-key: KEY."


class Keys:
    """Knows the callers. A key is looked up by its digest, at most every three seconds."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._recent: Recent[bytes, Caller] = Recent(REMEMBERED_SECONDS)

    async def authenticate(self, request: web.Request) -> Caller:
        """Return whose key a request carries; raise AuthenticationError."""
        key = _key_of(request)
        caller = await self._recent.find(access.digest(key), self._look_up)
        if caller is None:
            raise AuthenticationError("This API key does not exist, or was revoked.")
        return caller

    async def _look_up(self, digest: bytes) -> Caller | None:
        async with self._pool.acquire() as connection:
            return await access.find_caller(connection, digest)


def _key_of(request: web.Request) -> str:
    named = request.headers.getall("x-api-key", [])
    for value in request.headers.getall("Authorization", []):
        kind, _, credentials = value.strip().partition(" ")
        if kind.lower() != "bearer":
            raise AuthenticationError(f"Only Bearer is taken in Authorization. {_HOW}")
        named = [*named, credentials.strip()]
    if not named:
        raise AuthenticationError(f"No API key was sent. {_HOW}")
    if len(set(named)) > 1:
        raise AuthenticationError("Several API keys were sent; send one.")
    if not _FORM.fullmatch(named[0]):
        raise AuthenticationError(f"That is not an API key: one begins with {access.KEY_PREFIX}")
    return named[0]
