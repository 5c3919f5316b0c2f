"""A measured figure, what it is compared with, and what it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure over its baseline; `target` is the least (with `at_most`, the most) it may be."""

    name: str
    measured: str
    baseline: str
    value: float
    target: float
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """Whether the target is met."""
        return self.value <= self.target if self.at_most else self.value >= self.target


def rates(name: str, measured: float, baseline: float, target: float) -> Ratio:
    """Return how much of a baseline's rate was reached."""
    return Ratio(name, f"{measured:,.0f}/s", f"{baseline:,.0f}/s", measured / baseline, target)


def table(ratios: Sequence[Ratio]) -> str:
    """Return the benchmark table."""
    rows = [("", "measured", "baseline", "ratio", "target", "")]
    rows += [
        (
            ratio.name,
            ratio.measured,
            ratio.baseline,
            f"{ratio.value:.3g}",
            f"{'≤' if ratio.at_most else '≥'} {ratio.target:.3g}",
            "ok" if ratio.holds else "MISSED",
        )
        for ratio in ratios
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that the given share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
