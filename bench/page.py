"""Brings the results of a run into the documentation: a table, a picture for each curve, the JSON.

`docs/benchmarks.json` is the run that the page shows. A test compares the page with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import pictures, record
from bench.curves import Curve
from bench.machine import Machine
from bench.results import cells

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/benchmarks.md"
RECORD = ROOT / "docs/benchmarks.json"
IMAGES = ROOT / "docs/images"
START, END = "<!-- results: python -m bench pictures -->", "<!-- end of results -->"
CURVES_START, CURVES_END = "<!-- curves: python -m bench pictures -->", "<!-- end of curves -->"


def write(file: Path) -> None:
    """Write the record, the pictures and the generated parts of the page from a run's JSON."""
    newest = record.read(file)
    record.write(newest, RECORD)
    for curve in curves(newest):
        (IMAGES / picture(curve)).write_text(pictures.draw(curve), encoding="utf-8")
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8"), newest), encoding="utf-8")


def rendered(text: str, newest: record.Record) -> str:
    """Return the page with its table and its list of pictures made from these results."""
    text = _between(text, START, END, "\n".join(_table(newest)))
    shown = [f"![{c.title}](images/{picture(c)})\n" for c in curves(newest)]
    return _between(text, CURVES_START, CURVES_END, "\n".join(shown))


def _between(text: str, start: str, end: str, body: str) -> str:
    if not 0 <= text.find(start) < text.find(end):
        raise ValueError(f"{PAGE.name} has no {start} before {end}")
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n\n{body.strip()}\n\n{end}{after}"


def _table(newest: record.Record) -> Iterator[str]:
    if not newest.parts:
        yield "No run is recorded."
        return
    yield "| what | measured | baseline | ratio | spread | target | verdict |"
    yield "|---|---|---|---|---|---|---|"
    for part in newest.parts.values():
        for ratio in part.ratios:
            yield f"| {' | '.join((ratio.name, *cells(ratio), ratio.verdict))} |"
    yield ""
    yield "| part | measured | revision | load before | a commit, p50, p99 | machine | versions |"
    yield "|---|---|---|---|---|---|---|"
    for name, part in newest.parts.items():
        yield f"| `{name}` | {' | '.join(_facts(part.machine))} |"


def _facts(machine: Machine) -> tuple[str, ...]:
    return (
        machine.at.replace("T", " ").removesuffix("+00:00"),
        machine.revision,
        f"{machine.load:.1f}",
        f"{machine.commit_ms_p50:.2f} ms, {machine.commit_ms_p99:.2f} ms",
        f"{machine.cores} cores, {machine.memory_mib / 1024:.0f} GiB",
        f"PostgreSQL {machine.postgresql}, Python {machine.python}",
    )


def curves(newest: record.Record) -> list[Curve]:
    return [curve for part in newest.parts.values() for curve in part.curves]


def picture(curve: Curve) -> str:
    return f"bench-{curve.name}.svg"
