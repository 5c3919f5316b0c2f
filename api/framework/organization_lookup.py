"""Finding the organization that a request names, if its key may see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.access.model import Caller
from shared.errors import NotFoundError
from shared.organizations import service as organizations
from shared.organizations.model import Organization
from shared.ttl_cache import TTLCache

if TYPE_CHECKING:
    from shared.db.pool import Connections

# The delay until a change is seen; an id or slug never moves to another organization.
REMEMBERED_SECONDS = 2.0
REFERENCE_LENGTH_MAX = 100


class OrganizationLookup:
    """Finds organizations by id or slug, and hides those of other tenants."""

    def __init__(self, pool: Connections) -> None:
        self._pool = pool
        self._cache: TTLCache[str, Organization] = TTLCache(REMEMBERED_SECONDS)

    async def find(self, reference: str, caller: Caller) -> Organization:
        """Return the organization.

        Raises the same NotFoundError for another tenant's organization as for a missing one.
        """
        organization = await self._cache.get_or_load(reference, self._look_up)
        if organization is None or caller.organization_id not in (None, organization.id):
            raise NotFoundError(f"There is no organization {reference[:100]!r}.")
        return organization

    def forget(self, organization: Organization) -> None:
        """Remove a changed organization from the cache."""
        for reference in (str(organization.id), organization.slug):
            self._cache.invalidate(reference)

    async def _look_up(self, reference: str) -> Organization | None:
        if len(reference) > REFERENCE_LENGTH_MAX or "\0" in reference:
            return None  # neither slug nor id; PostgreSQL rejects text with NUL
        try:
            async with self._pool.acquire() as connection:
                return await organizations.find(connection, reference)
        except NotFoundError:
            return None
