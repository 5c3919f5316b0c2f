"""Prices of one book that could both be valid for the same name at the same moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from shared.pricing.matching import WILDCARD, literal_prefix, literal_suffix
from shared.pricing.model import Hours, Price, PriceBook, Subject

DAY_MINUTES = 24 * 60
_Claim = tuple[int, Price]


def ambiguities(book: PriceBook) -> Iterator[tuple[int, str]]:
    """Yield the number of each price that another one contradicts, with a sentence."""
    claims: dict[tuple[Subject, str], list[_Claim]] = {}
    for number, price in enumerate(book.prices):
        if _first_overlap([[part] for part in price.hours]) is not None:
            yield number, "Its parts of the day overlap"
        for pattern in {pattern.lower() for pattern in price.patterns}:
            claims.setdefault((price.subject, pattern), []).append((number, price))
        if len({pattern.lower() for pattern in price.patterns}) < len(price.patterns):
            yield number, "It names a pattern twice"
    for (_, pattern), found in claims.items():
        for number, others in _contradictions(found):
            yield number, f"{pattern} has another price, in prices {others}"
    yield from _glob_ambiguities(claims)


def _contradictions(claims: list[_Claim]) -> Iterator[tuple[int, int]]:
    """Yield pairs of prices of one pattern that are valid at one moment.

    One price without hours is the price of the rest of the day.
    """
    always = [number for number, price in claims if not price.hours]
    for first, second in pairwise(always):
        yield second, first
    partial = [(number, price) for number, price in claims if price.hours]
    found = _first_overlap([price.hours for _, price in partial])
    if found is not None:
        first, second = found
        yield partial[second][0], partial[first][0]


def _glob_ambiguities(
    claims: dict[tuple[Subject, str], list[_Claim]],
) -> Iterator[tuple[int, str]]:
    """Yield globs with the same literal prefix that match a name in common.

    They do exactly where the text after the last wildcard of one ends with that of the other: the
    prefix, the middle parts of both and the longer end make such a name.
    """
    groups: dict[tuple[Subject, str], list[tuple[str, str, int]]] = {}
    for (subject, pattern), found in claims.items():
        if WILDCARD in pattern:
            ending = literal_suffix(pattern)[::-1]
            key = subject, literal_prefix(pattern)
            groups.setdefault(key, []).append((ending, pattern, found[0][0]))
    for globs in groups.values():
        # Sorted, each text stands next to one that begins with it, where there is one.
        for (ending, pattern, _), (longer, other, number) in pairwise(sorted(globs)):
            if longer.startswith(ending):
                yield number, f"{pattern} and {other} match names in common, equally specific"


def _first_overlap(parts: Sequence[Iterable[Hours]]) -> tuple[int, int] | None:
    """Return the first two of these parts of the day that have a minute in common."""
    taken: dict[int, int] = {}
    for number, hours in enumerate(parts):
        minutes = _minutes(hours)
        for minute in minutes:
            if minute in taken:
                return taken[minute], number
        taken.update(dict.fromkeys(minutes, number))
    return None


def overlap(some: Iterable[Hours], others: Iterable[Hours]) -> bool:
    """Return whether parts of the day have a minute in common."""
    return not _minutes(some).isdisjoint(_minutes(others))


def _minutes(hours: Iterable[Hours]) -> frozenset[int]:
    """Return the minutes of the day in these parts; their bounds are whole minutes."""
    minutes: set[int] = set()
    for part in hours:
        start = part.start.hour * 60 + part.start.minute
        end = part.end.hour * 60 + part.end.minute
        if end < start:
            end += DAY_MINUTES
        minutes.update(minute % DAY_MINUTES for minute in range(start, end))
    return frozenset(minutes)
