"""Draws a curve as SVG: readable on light and dark pages, with each figure as a tooltip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from bench.curves import Curve, Series

WIDTH, HEIGHT = 680, 380
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 76, 52
TICKS_MAX = 6
LEGEND_COLUMNS = 2
# Line and dash of each series, so that they differ without colours too.
DASHES = ("", "6 3", "2 3", "9 3 2 3", "1 4", "12 4")
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; font-size: 14px; }
.grid { stroke: #d0d7de; } .axis { stroke: #57606a; }
polyline { fill: none; stroke-width: 2; }
.s0 { stroke: #0550ae; } .s1 { stroke: #bc4c00; } .s2 { stroke: #1a7f37; }
.s3 { stroke: #8250df; } .s4 { stroke: #9a6700; } .s5 { stroke: #cf222e; }
circle.s0 { fill: #0550ae; } circle.s1 { fill: #bc4c00; } circle.s2 { fill: #1a7f37; }
circle.s3 { fill: #8250df; } circle.s4 { fill: #9a6700; } circle.s5 { fill: #cf222e; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .grid { stroke: #30363d; } .axis { stroke: #8b949e; }
  .s0 { stroke: #79c0ff; } .s1 { stroke: #ffa657; } .s2 { stroke: #7ee787; }
  .s3 { stroke: #d2a8ff; } .s4 { stroke: #e3b341; } .s5 { stroke: #ff7b72; }
  circle.s0 { fill: #79c0ff; } circle.s1 { fill: #ffa657; } circle.s2 { fill: #7ee787; }
  circle.s3 { fill: #d2a8ff; } circle.s4 { fill: #e3b341; } circle.s5 { fill: #ff7b72; }
}
"""


@dataclass(frozen=True, slots=True)
class _Axis:
    """Places values between two ends of the picture; with a base, by their logarithm."""

    lowest: float
    highest: float
    base: int | None
    start: float
    end: float

    def place(self, value: float) -> float:
        low, high, at = map(self._scaled, (self.lowest, self.highest, value))
        return self.start + (at - low) / ((high - low) or 1) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.base is not None:
            first, last = (round(self._scaled(end)) for end in (self.lowest, self.highest))
            return [float(self.base) ** power for power in range(first, last + 1)]
        step = _step(self.highest / TICKS_MAX)
        return [step * number for number in range(round(self.highest / step) + 1)]

    def _scaled(self, value: float) -> float:
        return value if self.base is None else math.log(value, self.base)


def draw(curve: Curve) -> str:
    """Return the picture of a curve."""
    x = _axis([p[0] for s in curve.series for p in s.points], curve.x_base, LEFT, WIDTH - RIGHT)
    y = _axis([p[1] for s in curve.series for p in s.points], curve.y_base, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(curve.title)}</title><style>{_STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="20">{escape(curve.title)}</text>',
        *_grid(x, y),
        _label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, curve.x, "middle"),
        _label(16, TOP - 10, curve.y),
        *(line for n, series in enumerate(curve.series) for line in _series(n, series, x, y)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axis(values: Sequence[float], base: int | None, start: float, end: float) -> _Axis:
    """Return an axis for values: from 0, or between the powers around them."""
    if base is None:
        step = _step(max(values) / TICKS_MAX)
        return _Axis(0, math.ceil(max(values) / step - 1e-9) * step, None, start, end)
    low = math.floor(math.log(min(values), base) + 1e-9)
    high = math.ceil(math.log(max(values), base) - 1e-9)
    return _Axis(float(base) ** low, float(base) ** max(high, low + 1), base, start, end)


def _step(least: float) -> float:
    """Return the smallest of 1, 2, 5, 10, 20 … that is not less."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least - 1e-12)


def _grid(x: _Axis, y: _Axis) -> Iterator[str]:
    for value in y.ticks():
        at = f"{y.place(value):.1f}"
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'
        yield _label(LEFT - 8, y.place(value) + 4, _text(value), "end")
    for value in x.ticks():
        yield _label(x.place(value), HEIGHT - BOTTOM + 20, _text(value), "middle")
    base = HEIGHT - BOTTOM
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>'


def _series(number: int, series: Series, x: _Axis, y: _Axis) -> Iterator[str]:
    kind, dash = f"s{number % len(DASHES)}", DASHES[number % len(DASHES)]
    places = [(x.place(px), y.place(py), px, py) for px, py in series.points]
    points = " ".join(f"{at_x:.1f},{at_y:.1f}" for at_x, at_y, _, _ in places)
    yield f'<polyline class="{kind}" stroke-dasharray="{dash}" points="{points}"/>'
    for at_x, at_y, value_x, value_y in places:
        label = escape(f"{series.name}: {_text(value_x)}, {_text(value_y)}")
        yield f'<circle class="{kind}" cx="{at_x:.1f}" cy="{at_y:.1f}" r="3">'
        yield f"<title>{label}</title></circle>"
    column, row = number % LEGEND_COLUMNS, number // LEGEND_COLUMNS
    left, height = LEFT + column * 290, 36 + row * 18
    ends = f"{left},{height} {left + 24},{height}"
    yield f'<polyline class="{kind}" stroke-dasharray="{dash}" points="{ends}"/>'
    yield _label(left + 30, height + 4, series.name)


def _label(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _text(value: float) -> str:
    """Return a figure as a reader writes it: 10,000, 0.25."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
