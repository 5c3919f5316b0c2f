"""Charts as plain SVG shapes: lines, steps and bars, each with the table of its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias

from console.framework import formatting

WIDTH, HEIGHT = 640, 200
LEFT, RIGHT, TOP, BOTTOM = 64, 8, 10, 24
TICKS = 4
SERIES_MAX = 6
POINTS_MAX = 500
BAR_GAP_RATIO = 0.2
UNITS_FROM = 10_000
UNITS = ((Decimal("1e12"), "T"), (Decimal("1e9"), "B"), (Decimal("1e6"), "M"), (Decimal(1000), "k"))

Number: TypeAlias = Decimal | float
Points: TypeAlias = Sequence[tuple[datetime, Number]]


class Shape(StrEnum):
    """How the values of a series are drawn."""

    LINE = "line"
    STEPS = "steps"  # a value holds until the next
    BARS = "bars"


@dataclass(frozen=True, slots=True)
class Series:
    """Values over time, oldest first."""

    name: str
    points: Points


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of an axis: where it is, and its label."""

    position: float
    label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart; `label` is its tooltip."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A series as a path or as bars. `number` selects its color and dashes."""

    number: int
    name: str
    path: str = ""
    bars: Sequence[Bar] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """What the template `chart` draws. `rows`: the numbers behind it, newest first."""

    title: str
    unit: str
    drawings: Sequence[Drawing]
    ticks_x: Sequence[Tick]
    ticks_y: Sequence[Tick]
    columns: Sequence[str]
    rows: Sequence[tuple[datetime, Sequence[Number | None]]]
    summary: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True, slots=True)
class Period:
    """The time axis of a chart, with room for so many bars."""

    since: datetime
    until: datetime
    bars_max: int


def chart(
    title: str,
    series: Sequence[Series],
    *,
    shape: Shape = Shape.LINE,
    unit: str = "",
    period: Period | None = None,
) -> Chart:
    """Return a chart of up to six series of up to 500 points each; bars are for one series.

    The time axis is the period, or without one reaches from the first point to the last.
    """
    series = [Series(s.name, s.points[-POINTS_MAX:]) for s in series[:SERIES_MAX]]
    times = [at for s in series for at, _ in s.points]
    values = [float(value) for s in series for _, value in s.points]
    scale = _Scale.of(times if period is None else [period.since, period.until], values)
    bars_max = None if period is None else period.bars_max
    return Chart(
        title=title,
        unit=unit,
        drawings=[_draw(number, s, shape, scale, bars_max) for number, s in enumerate(series)],
        ticks_x=scale.ticks_x() if times or period else (),
        ticks_y=scale.ticks_y(),
        columns=[s.name for s in series],
        rows=_rows(series),
        summary=_summary(series, unit),
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    begin: datetime | None
    seconds: float
    low: float
    high: float

    @classmethod
    def of(cls, times: Sequence[datetime], values: Sequence[float]) -> _Scale:
        begin = min(times, default=None)
        seconds = (max(times) - begin).total_seconds() if begin else 0.0
        low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
        step = _step((high - low) / TICKS or 1.0)
        return cls(
            begin,
            seconds or 1.0,
            math.floor(low / step) * step,
            math.ceil(high / step) * step or step,
        )

    def x(self, at: datetime) -> float:
        assert self.begin is not None  # noqa: S101 - there are points
        share = (at - self.begin).total_seconds() / self.seconds
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: Number) -> float:
        share = (float(value) - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def ticks_y(self) -> list[Tick]:
        step = _step((self.high - self.low) / TICKS)
        count = round((self.high - self.low) / step)
        values = [self.low + step * number for number in range(count + 1)]
        return [Tick(self.y(value), _rounded(_tidy(value))) for value in values]

    def ticks_x(self) -> list[Tick]:
        assert self.begin is not None  # noqa: S101 - there are points
        form = "%H:%M" if self.seconds <= formatting.DAY else "%m-%d"
        if self.seconds < TICKS * formatting.MINUTE:
            form = "%H:%M:%S"
        begin = self.begin.timestamp()
        return [
            Tick(
                round(LEFT + share * (WIDTH - LEFT - RIGHT), 1),
                datetime.fromtimestamp(begin + share * self.seconds, self.begin.tzinfo).strftime(
                    form
                ),
            )
            for share in (number / TICKS for number in range(TICKS + 1))
        ]


def _step(rough: float) -> float:
    """Return the next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _rounded(value: Decimal) -> str:
    """Return a value for an axis, whose margin is narrow: 2,500, 25k, 1.5M."""
    units = UNITS if abs(value) >= UNITS_FROM else ()
    for size, unit in units:
        if abs(value) >= size:
            return f"{formatting.amount(value / size)}{unit}"
    return formatting.amount(value)


def _tidy(value: float) -> Decimal:
    return Decimal(f"{value:.6g}")


def _draw(
    number: int, series: Series, shape: Shape, scale: _Scale, bars_max: int | None
) -> Drawing:
    if shape is Shape.BARS:
        return Drawing(number, series.name, bars=_bars(series, scale, bars_max))
    places = [(scale.x(at), scale.y(value)) for at, value in series.points]
    if not places:
        return Drawing(number, series.name)
    (x, y), rest = places[0], places[1:]
    path = [f"M{x} {y}"]
    if shape is Shape.STEPS:
        path += [f"H{x} V{y}" for x, y in rest]
    else:
        path += [f"L{x} {y}" for x, y in rest]
    return Drawing(number, series.name, path=" ".join(path if rest else [*path, "h2"]))


def _bars(series: Series, scale: _Scale, bars_max: int | None) -> list[Bar]:
    """Draw bars side by side; in a period, each ends at its time."""
    room = (WIDTH - LEFT - RIGHT) / max(bars_max or len(series.points), 1)
    width = max(room * (1 - BAR_GAP_RATIO), 1.0)
    zero = scale.y(0)
    bars = []
    for place, (at, value) in enumerate(series.points):
        y = scale.y(value)
        left = LEFT + place * room if bars_max is None else max(scale.x(at) - room, LEFT)
        bars.append(
            Bar(
                x=round(left + (room - width) / 2, 1),
                y=min(y, zero),
                width=round(width, 1),
                height=round(abs(zero - y), 1),
                label=f"{formatting.utc(at)}: {formatting.amount(value)}",
            )
        )
    return bars


def _rows(series: Sequence[Series]) -> list[tuple[datetime, list[Number | None]]]:
    by_name = [dict(s.points) for s in series]
    times = sorted({at for points in by_name for at in points}, reverse=True)[:POINTS_MAX]
    return [(at, [points.get(at) for points in by_name]) for at in times]


def _summary(series: Sequence[Series], unit: str) -> str:
    """Return what a screen reader says of the drawing: the last value and the range of each."""
    parts = []
    for s in series:
        if s.points:
            values = [value for _, value in s.points]
            last, low, high = (_short(v) for v in (values[-1], min(values), max(values)))
            parts.append(f"{s.name}: last {last}, lowest {low}, highest {high}")
    unit = f" ({unit})" if unit else ""
    return f"{'; '.join(parts)}{unit}" if parts else "No values yet."


def _short(value: Number) -> str:
    return formatting.amount(value if isinstance(value, Decimal) else _tidy(value))
