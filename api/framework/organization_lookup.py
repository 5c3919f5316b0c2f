"""Finding the organization that a request names, as far as its key may know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.framework.ttl_cache import TTLCache
from shared.access.model import Caller
from shared.errors import NotFoundError
from shared.organizations import service as organizations
from shared.organizations.model import Organization

if TYPE_CHECKING:
    from shared.db.pool import Connections

# A change of name is seen this much later; ids and slugs never change hands.
REMEMBERED_SECONDS = 2.0
REFERENCE_LENGTH_MAX = 100


class OrganizationLookup:
    """Finds organizations by id or slug, and keeps those of others from a key."""

    def __init__(self, pool: Connections) -> None:
        self._pool = pool
        self._cache: TTLCache[str, Organization] = TTLCache(REMEMBERED_SECONDS)

    async def find(self, reference: str, caller: Caller) -> Organization:
        """Return the organization; NotFoundError, the same one whether it is another's or none."""
        found = await self._cache.get_or_load(reference, self._look_up)
        if found is None or caller.organization_id not in (None, found.id):
            raise NotFoundError(f"There is no organization {reference[:100]!r}.")
        return found

    def forget(self, organization: Organization) -> None:
        """Look it up again next time: it has changed."""
        for reference in (str(organization.id), organization.slug):
            self._cache.invalidate(reference)

    async def _look_up(self, reference: str) -> Organization | None:
        if len(reference) > REFERENCE_LENGTH_MAX or "\0" in reference:
            return None  # no slug or id; and PostgreSQL takes no text with NUL
        try:
            async with self._pool.acquire() as connection:
                return await organizations.find(connection, reference)
        except NotFoundError:
            return None
