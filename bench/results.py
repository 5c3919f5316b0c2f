"""A measured figure, what it is compared with, and what it should be; over several rounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure over its baseline; `target` is the least (with `at_most`, the most) it may be.

    After several rounds the figures are those of the middle round; `rounds` has the ratio of each.
    """

    name: str
    measured: str
    baseline: str
    value: float
    target: float
    at_most: bool = False
    rounds: tuple[float, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the target is met."""
        return self._meets(self.value)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest ratio of all rounds."""
        values = self.rounds or (self.value,)
        return min(values), max(values)

    @property
    def verdict(self) -> str:
        """Whether the target is met, and in how many rounds where they differ."""
        rounds = self.rounds or (self.value,)
        met = sum(map(self._meets, rounds))
        text = "ok" if self.holds else "MISSED"
        return text if met in {0, len(rounds)} else f"{text}, met in {met} of {len(rounds)}"

    def _meets(self, value: float) -> bool:
        return value <= self.target if self.at_most else value >= self.target


def rates(name: str, measured: float, baseline: float, target: float) -> Ratio:
    """Return how much of a baseline's rate was reached."""
    return Ratio(name, f"{measured:,.0f}/s", f"{baseline:,.0f}/s", measured / baseline, target)


def over_rounds(rounds: Sequence[Sequence[Ratio]]) -> list[Ratio]:
    """Return each row of a part as its middle round measured it, with the ratios of all rounds.

    Of two middle rounds it is the worse one.
    """
    rows = []
    for measured in zip(*rounds, strict=True):
        ordered = sorted(measured, key=lambda ratio: ratio.value)
        middle = ordered[len(ordered) // 2 if measured[0].at_most else (len(ordered) - 1) // 2]
        values = tuple(ratio.value for ratio in measured)
        rows.append(dataclasses.replace(middle, rounds=values))
    return rows


def table(ratios: Sequence[Ratio]) -> str:
    """Return the benchmark table as text."""
    rows = [("", "measured", "baseline", "ratio", "spread", "target", "")]
    rows += [(ratio.name, *cells(ratio), ratio.verdict) for ratio in ratios]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def cells(ratio: Ratio) -> tuple[str, str, str, str, str]:
    """Return the measured figure, the baseline, the ratio, its spread and the target as text."""
    lowest, highest = ratio.spread
    return (
        ratio.measured,
        ratio.baseline,
        f"{ratio.value:.3g}",
        f"{lowest:.3g} to {highest:.3g}" if len(ratio.rounds) > 1 else "",
        f"{'≤' if ratio.at_most else '≥'} {ratio.target:.3g}",
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that the given share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
