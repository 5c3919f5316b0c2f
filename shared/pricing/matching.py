"""Finding the price for a model or meter: the most specific pattern that matches.

An exact name precedes every glob; of globs, the longest literal prefix does. Names are compared
without regard to case.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time

from shared.pricing.model import Discount, Hours, Price, PriceBook, Subject

WILDCARD = "*"
_Key = tuple[Subject, str]


def literal_prefix(pattern: str) -> str:
    """Return the text before the first wildcard."""
    return pattern.partition(WILDCARD)[0]


def literal_suffix(pattern: str) -> str:
    """Return the text after the last wildcard."""
    return pattern.rpartition(WILDCARD)[2]


def specificity(pattern: str) -> tuple[bool, int]:
    """Return an order of patterns: the greater is more specific."""
    return WILDCARD not in pattern, len(literal_prefix(pattern))


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern matches a name, in time linear in the name for each wildcard."""
    first, *others = pattern.lower().split(WILDCARD)
    name = name.lower()
    if not others:
        return name == first
    *middle, last = others
    end = len(name) - len(last)
    if not name.startswith(first) or not name.endswith(last) or end < len(first):
        return False
    position = len(first)
    for part in middle:
        found = name.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


def in_hours(hours: Iterable[Hours], at: datetime) -> bool:
    """Return whether a moment is in one of these parts of the day in UTC."""
    moment = at.astimezone(UTC).time()
    return any(_contains(part, moment) for part in hours)


def discount_for(discounts: Iterable[Discount], name: str, at: datetime) -> Discount | None:
    """Return the discount on a name: of the most specific pattern, the newest that is valid."""
    valid = [d for d in discounts if d.valid_from <= at and matches(d.pattern, name)]
    return max(valid, key=lambda d: (specificity(d.pattern), d.valid_from), default=None)


class PriceIndex:
    """The prices of a book, arranged for look-up."""

    def __init__(self, book: PriceBook) -> None:
        self.book = book
        self._exact: dict[_Key, list[Price]] = {}
        self._globs: dict[_Key, list[tuple[str, Price]]] = {}
        for price in book.prices:
            for pattern in map(str.lower, price.patterns):
                if WILDCARD in pattern:
                    key = price.subject, literal_prefix(pattern)
                    self._globs.setdefault(key, []).append((pattern, price))
                else:
                    self._exact.setdefault((price.subject, pattern), []).append(price)

    def find(self, subject: Subject, name: str, at: datetime) -> Price | None:
        """Return the price that is valid for a name at a moment; None without one."""
        name = name.lower()
        if price := _valid(self._exact.get((subject, name), ()), at):
            return price
        for length in range(len(name), -1, -1):
            globs = self._globs.get((subject, name[:length]), ())
            if price := _valid((price for glob, price in globs if matches(glob, name)), at):
                return price
        return None


def _valid(prices: Iterable[Price], at: datetime) -> Price | None:
    always = None
    for price in prices:
        if not price.hours:
            always = price
        elif in_hours(price.hours, at):
            return price
    return always


def _contains(part: Hours, moment: time) -> bool:
    if part.end < part.start:
        return moment >= part.start or moment < part.end
    return part.start <= moment < part.end
