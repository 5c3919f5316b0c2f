"""Creating and finding organizations."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from shared.errors import (
    AlreadyExistsError,
    ConfigError,
    ConflictError,
    NotFoundError,
    OrganizationClosedError,
)
from shared.ids import new_id, parse_id
from shared.inbox import store as inbox
from shared.inbox.rules import waits_for_organization
from shared.money import THREE_DECIMAL_CURRENCIES, rate_refusal
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
    credits_per_unit: Decimal = Decimal(1),
) -> Organization:
    """Create an organization and its account, in the caller's transaction.

    Events that were ignored because no organization had its id or slug are applied again.
    Raises ValidationError for an invalid field, also for a currency that the rate does not suit,
    and AlreadyExistsError for a slug or id in use.
    """
    rules.check(
        slug=slug,
        name=name,
        currency=currency,
        email=email,
        organization_id=organization_id,
        credits_per_unit=credits_per_unit,
    )
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
    names = (organization.slug, str(organization.id))
    await inbox.reopen_waiting(connection, [*map(waits_for_organization, names)])
    return organization


def too_fine_for(credits_per_unit: Decimal) -> dict[str, str]:
    """Return the three-decimal currencies that a rate does not suit, each with the reason."""
    return {
        currency: refusal
        for currency in sorted(THREE_DECIMAL_CURRENCIES)
        if (refusal := rate_refusal(currency, credits_per_unit))
    }


async def check_rate(connection: Connection, credits_per_unit: Decimal) -> None:
    """Raise ConfigError where the rate does not suit the currency of an organization.

    Currencies with two decimals or none were checked when the settings were read.
    """
    refused = too_fine_for(credits_per_unit)
    currency = await store.currency_in_use(connection, refused)
    if currency is not None:
        raise ConfigError("PREPAID_CREDITS_PER_UNIT", refused[currency])


async def change(
    connection: Connection,
    organization: Organization,
    *,
    name: str | None = None,
    email: str | None = None,
    clear_email: bool = False,
) -> Organization:
    """Update the name or email; slug, id and currency never change.

    Raises ConflictError for an organization whose personal data was erased.
    """
    rules.check_change(name=name, email=email)
    if await store.is_erased(connection, organization.id):
        raise ConflictError(
            "The personal data of this organization was erased: it takes no name and no email."
        )
    changed = await store.change(
        connection, organization.id, name=name, email=email, clear_email=clear_email
    )
    assert changed is not None  # noqa: S101 - an organization is never deleted
    return changed


async def check_open(connection: Connection, organization_id: UUID) -> None:
    """Raise OrganizationClosedError for a closed organization."""
    if await store.closed_at(connection, organization_id) is not None:
        raise OrganizationClosedError


async def lock_open(connection: Connection, organization_id: UUID) -> None:
    """Keep an organization open until the transaction ends, or raise OrganizationClosedError."""
    if not await store.lock_open(connection, organization_id):
        raise OrganizationClosedError


async def find(connection: Connection, reference: str) -> Organization:
    """Return the organization with this id or slug; raise NotFoundError."""
    organization = await store.by_reference(connection, parse_id(reference), reference)
    if organization is None:
        raise NotFoundError(f"There is no organization {reference!r}.")
    return organization
