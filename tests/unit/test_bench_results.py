"""The benchmark's table: rounds, their middle, their spread and the verdict."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import record
from bench.curves import Curve, Series
from bench.machine import Machine
from bench.results import Ratio, over_rounds, table

MACHINE = Machine(
    at="2026-11-28T16:00:00+00:00",
    revision="0123456789ab",
    system="Linux 6.1",
    processor="a processor",
    cores=2,
    memory_mib=3_900,
    load=0.4,
    python="3.11.2",
    postgresql="18.1",
    commit_ms_p50=0.9,
    commit_ms_p99=2.1,
)


def ratio(value: float, *, at_most: bool = False) -> Ratio:
    return Ratio("debits / no-op", f"{value * 100:.0f}/s", "100/s", value, 0.4, at_most)


@pytest.mark.parametrize(
    ("values", "at_most", "middle", "verdict"),
    [
        ([0.5, 0.3, 0.45], False, 0.45, "ok, met in 2 of 3"),
        ([0.5, 0.3, 0.35], False, 0.35, "MISSED, met in 1 of 3"),
        ([0.5, 0.3], False, 0.3, "MISSED, met in 1 of 2"),
        ([0.5, 0.3], True, 0.5, "MISSED, met in 1 of 2"),
        ([0.5, 0.6, 0.7], False, 0.6, "ok"),
        ([0.7], True, 0.7, "MISSED"),
    ],
)
def test_the_middle_round_decides_and_the_verdict_says_in_how_many_the_target_was_met(
    values: list[float], at_most: bool, middle: float, verdict: str
) -> None:
    (row,) = over_rounds([[ratio(value, at_most=at_most)] for value in values])

    assert (row.value, row.measured, row.rounds) == (middle, f"{middle * 100:.0f}/s", tuple(values))
    assert row.spread == (min(values), max(values))
    assert row.verdict == verdict


def test_rounds_that_measured_different_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        over_rounds([[ratio(1)], []])


def test_the_table_has_figure_baseline_ratio_spread_target_and_verdict() -> None:
    text = table([*over_rounds([[ratio(0.3)], [ratio(0.5)], [ratio(0.45)]]), ratio(0.6)])

    head, first, second = text.splitlines()
    assert head.split() == ["measured", "baseline", "ratio", "spread", "target"]
    assert re.split(" {2,}", first) == [
        "debits / no-op",
        "45/s",
        "100/s",
        "0.45",
        "0.3 to 0.5",
        "≥ 0.4",
        "ok, met in 2 of 3",
    ]
    assert second.split()[-3:] == ["≥", "0.4", "ok"]


def test_the_json_keeps_other_parts_and_says_spread_and_verdict(tmp_path: Path) -> None:
    file = tmp_path / "build" / "bench.json"
    curve = Curve("load", "Latency", "per cent", "ms", (Series("p50", ((10, 1.5),)),), y_base=10)
    record.add("api", record.Part(MACHINE, 3.5, over_rounds([[ratio(0.5)], [ratio(0.3)]])), file)
    record.add("load", record.Part(MACHINE, 1.5, curves=[curve]), file)

    parts = record.read(file).parts

    assert list(parts) == ["api", "load"]
    assert parts["load"].curves == [curve]
    assert parts["api"].machine == MACHINE
    assert '"verdict": "MISSED, met in 1 of 2"' in file.read_text(encoding="utf-8")
