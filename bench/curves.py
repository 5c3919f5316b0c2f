"""A measured curve: how a figure changes with clients, with load or with rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Series:
    """The points of one line."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """Lines over one axis; `logarithmic` axes have a step for each power of ten or two."""

    name: str
    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    x_base: int | None = None
    y_base: int | None = None
