"""The price of usage: by the book and the discounts of an organization, at a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.errors import ValidationError
from shared.pricing import store
from shared.pricing.files import from_content
from shared.pricing.matching import PriceIndex, discount_for
from shared.pricing.model import (
    Activation,
    OrganizationPricing,
    PricedUsage,
    PricingRefusal,
    UsageItem,
    version_at,
)
from shared.pricing.rules import price_item, subject_of
from shared.pricing.usage_rules import ITEMS_MAX, item_refusal
from shared.ttl_cache import TTLCache

if TYPE_CHECKING:
    from shared.db.pool import Connection

# What another process changes is seen after this time. It becomes valid later than that, see
# `rules.NOTICE_SECONDS`, so that all processes change their prices at the same moment.
REMEMBERED_SECONDS = 2.0
BOOKS_REMEMBERED_MAX = 16


class Pricer:
    """Prices usage. One for each process.

    It remembers books, which never change, and what else it read for 2 seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._organizations = TTLCache[UUID, OrganizationPricing](REMEMBERED_SECONDS, clock=clock)
        self._activations = TTLCache[str, tuple[Activation, ...]](REMEMBERED_SECONDS, clock=clock)
        self._books = TTLCache[tuple[str, int], PriceIndex](
            float("inf"), entries_max=BOOKS_REMEMBERED_MAX
        )

    async def price(
        self,
        connection: Connection,
        organization_id: UUID,
        items: Sequence[UsageItem],
        at: datetime,
    ) -> list[PricedUsage | PricingRefusal]:
        """Return the price of each item at a moment, or why it has none, in their order.

        Reads PostgreSQL once in 2 seconds for an organization and for a book, and once for each
        version. Raises ValidationError for more than 1,000 items.
        """
        if len(items) > ITEMS_MAX:
            raise ValidationError(f"At most {ITEMS_MAX} items of usage at once.")
        pricing = self._organizations.get(organization_id)
        if pricing is None:
            pricing = await store.organization_pricing(connection, organization_id)
            self._organizations.put(organization_id, pricing)
        index = await self._book_at(connection, pricing.book_at(at), at)
        if index is None:
            missing = PricingRefusal(
                location=(),
                message=f"The price book {pricing.book_at(at)!r} has no active version",
                type="no_price_book",
            )
            return [missing for _ in items]
        return [_price(item, index, pricing, at) for item in items]

    def price_remembered(
        self, organization_id: UUID, items: Sequence[UsageItem], at: datetime
    ) -> list[PricedUsage | PricingRefusal] | None:
        """Return what `price` does where it would read nothing; None where it would."""
        pricing = self._organizations.get(organization_id)
        if pricing is None:
            return None
        name = pricing.book_at(at)
        version = version_at(self._activations.get(name) or (), at)
        index = None if version is None else self._books.get((name, version))
        if index is None:
            return None
        return [_price(item, index, pricing, at) for item in items]

    async def _book_at(self, connection: Connection, name: str, at: datetime) -> PriceIndex | None:
        activations = self._activations.get(name) or ()
        # A book without a valid version is looked up each time: its first is valid at once.
        if version_at(activations, at) is None:
            activations = await store.activations(connection, name)
            self._activations.put(name, activations)
        version = version_at(activations, at)
        if version is None:
            return None
        index = self._books.get((name, version))
        if index is None:
            content = await store.content(connection, name, version)
            assert content is not None  # noqa: S101 - a version is never deleted
            # Thousands of prices take a part of a second: in a thread, and once for all callers.
            index = await self._books.get_or_load(
                (name, version), lambda key: asyncio.to_thread(_index, content, key[1])
            )
        return index


def _index(content: dict[str, Any], version: int) -> PriceIndex:
    return PriceIndex(from_content(content, version=version))


def _price(
    item: UsageItem, index: PriceIndex, pricing: OrganizationPricing, at: datetime
) -> PricedUsage | PricingRefusal:
    if refused := item_refusal(item):
        return refused
    subject, name = subject_of(item)
    price = index.find(subject, name, at)
    if price is None:
        return PricingRefusal(
            location=(subject.value,),
            message=f"The price book {index.book.name!r} (version {index.book.version}) has no"
            f" price for the {subject} {name}",
            type=f"unknown_{subject}",
        )
    discount = discount_for(pricing.discounts, name, at)
    return price_item(item, price, index.book, discount=discount.percent if discount else Decimal())
