"""Creating and finding organizations."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from shared.errors import AlreadyExistsError, NotFoundError
from shared.ids import new_id, parse_id
from shared.organizations import rules, store
from shared.organizations.model import Organization

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def create(
    connection: Connection,
    *,
    slug: str,
    name: str,
    currency: str = "usd",
    email: str | None = None,
    organization_id: UUID | None = None,
) -> Organization:
    """Create an organization and its account, in the caller's transaction.

    Raises ValidationError for a field that is wrong, AlreadyExistsError for a slug or id in use.
    """
    rules.check(slug=slug, name=name, currency=currency, email=email)
    organization = await store.create(
        connection,
        organization_id or new_id(),
        slug=slug,
        name=name,
        currency=currency,
        email=email,
    )
    if organization is None:
        raise AlreadyExistsError(f"An organization with the slug {slug!r} or that id exists.")
    return organization


async def change(
    connection: Connection,
    organization: Organization,
    *,
    name: str | None = None,
    email: str | None = None,
    clear_email: bool = False,
) -> Organization:
    """Change what may change: its slug, its id and its currency stand for ever."""
    rules.check_change(name=name, email=email)
    changed = await store.change(
        connection, organization.id, name=name, email=email, clear_email=clear_email
    )
    assert changed is not None  # noqa: S101 - an organization is never deleted
    return changed


async def find(connection: Connection, reference: str) -> Organization:
    """Return the organization with this id or slug; raise NotFoundError."""
    organization = await store.by_reference(connection, parse_id(reference), reference)
    if organization is None:
        raise NotFoundError(f"There is no organization {reference!r}.")
    return organization
