"""Everything that an audit compares, and what a check is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.chaos.books import ProductBooks, StripeBooks
from tests.chaos.journal import Journal


@dataclass(frozen=True, slots=True)
class Records:
    """Stripe's books, the product's, and what the outside saw."""

    stripe: StripeBooks
    product: ProductBooks
    journal: Journal


Check = Callable[[Records], Iterable[str]]
