"""Authentication of requests by API key or session token."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from aiohttp import hdrs, web
from multidict import istr

from api.framework.key_uses import KeyUses
from shared.access import service as access
from shared.access.model import Caller
from shared.db.group_commit import GroupCommit
from shared.errors import AuthenticationError
from shared.ttl_cache import TTLCache

if TYPE_CHECKING:
    from shared.db.pool import Pool

# The delay until a revoked key is refused, and until a new key works that was tried too early.
REMEMBERED_SECONDS = 3.0
LOOK_UPS_AT_ONCE_MAX = 2
DIGESTS_MAX = 1_000
# Of the headers whose digest is remembered: a key has up to a hundred.
REMEMBERED_CHARACTERS_MAX = 300
_KEY_HEADER = istr("x-api-key")
_FORM = re.compile(access.KEY_PREFIX + r"[A-Za-z0-9_-]{20,100}")
_HOW = "Send Authorization: Bearer KEY, or x-api-key: KEY."


class Authenticator:
    """Authenticates requests. Each key is looked up by its digest, at most every three seconds.

    Unknown keys are cached for as long, apart from known ones, and concurrent look-ups share a
    statement. So a client that sends invented keys, the same one or a new one each time, occupies
    at most two connections.

    The digests of the keys that were sent last are remembered: a hash for each request would be a
    hundredth of a debit.
    """

    def __init__(
        self, pool: Pool, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._pool = pool
        self._now = now
        self.uses = KeyUses(pool)
        self._cache: TTLCache[bytes, Caller] = TTLCache(REMEMBERED_SECONDS)
        self._unknown: TTLCache[bytes, bool] = TTLCache(REMEMBERED_SECONDS)
        self._look_ups = GroupCommit[bytes, Caller | None](
            self._read, flushes_at_once_max=LOOK_UPS_AT_ONCE_MAX
        )

    async def authenticate(self, request: web.Request) -> Caller:
        """Return the caller of a request's key or token; raise AuthenticationError."""
        headers = request.headers
        key = digest_of(
            tuple(headers.getall(_KEY_HEADER, ())), tuple(headers.getall(hdrs.AUTHORIZATION, ()))
        )
        caller = self._cache.get(key)
        if caller is None and not self._unknown.get(key):
            caller = await self._cache.get_or_load(key, self._look_up)
        now = self._now()
        if caller is None or (caller.expires_at is not None and caller.expires_at <= now):
            raise AuthenticationError("This API key does not exist, was revoked, or has expired.")
        self.uses.add(caller.key_id, now)
        return caller

    async def close(self) -> None:
        """Wait for the look-ups in progress, and write the last uses."""
        await self._look_ups.drain()
        await self.uses.close()

    async def _look_up(self, key: bytes) -> Caller | None:
        caller = await self._look_ups.submit(key)
        if caller is None:
            self._unknown.put(key, True)  # noqa: FBT003 - the value means "is unknown"
        return caller

    async def _read(self, keys: Sequence[bytes]) -> list[Caller | Exception | None]:
        async with self._pool.acquire() as connection:
            callers = await access.find_callers(connection, keys)
        return [callers.get(key) for key in keys]


def digest_of(keys: tuple[str, ...], authorizations: tuple[str, ...]) -> bytes:
    """Return the digest of the key in these headers; raise AuthenticationError."""
    if sum(map(len, (*keys, *authorizations))) > REMEMBERED_CHARACTERS_MAX:
        return access.digest(_key_of(keys, authorizations))
    return remembered_digest(keys, authorizations)


@lru_cache(maxsize=DIGESTS_MAX)
def remembered_digest(keys: tuple[str, ...], authorizations: tuple[str, ...]) -> bytes:
    """Return the digest of the key in short headers, and remember it."""
    return access.digest(_key_of(keys, authorizations))


def _key_of(keys: Sequence[str], authorizations: Sequence[str]) -> str:
    named = [*keys]
    for value in authorizations:
        kind, _, credentials = value.strip().partition(" ")
        if kind.lower() != "bearer":
            raise AuthenticationError(f"Authorization must be Bearer. {_HOW}")
        named.append(credentials.strip())
    if not named:
        raise AuthenticationError(f"No API key was sent. {_HOW}")
    if len(set(named)) > 1:
        raise AuthenticationError("Several different API keys were sent. Send one.")
    if not _FORM.fullmatch(named[0]):
        raise AuthenticationError(f"This is not an API key: keys begin with {access.KEY_PREFIX}.")
    return named[0]
