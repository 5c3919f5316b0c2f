"""The results of benchmarks as JSON: each part with its own machine, load and time.

A run replaces the parts that it measured, so that a table may be made of several runs; each part
says of which.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.curves import Curve
from bench.machine import Machine
from bench.results import Ratio

FILE = Path("build/bench.json")


@dataclass(frozen=True, slots=True)
class Part:
    """What one part of a run measured."""

    machine: Machine
    seconds: float
    ratios: list[Ratio] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Record:
    """The newest results of all parts."""

    parts: dict[str, Part] = field(default_factory=dict)


def read(file: Path = FILE) -> Record:
    """Return the results so far: none where the file does not exist."""
    return msgspec.json.decode(file.read_bytes(), type=Record) if file.exists() else Record()


def write(record: Record, file: Path = FILE) -> None:
    """Replace the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(_plain(record))) + b"\n")


def add(name: str, part: Part, file: Path = FILE) -> None:
    """Write the results of one part at once: a later part may fail."""
    parts = read(file).parts
    write(Record({**parts, name: part}), file)


def _plain(record: Record) -> object:
    """Return the record with each row's verdict, for readers of the file."""
    plain = msgspec.to_builtins(record)
    for name, part in record.parts.items():
        for row, ratio in zip(plain["parts"][name]["ratios"], part.ratios, strict=True):
            row["spread"] = list(ratio.spread)
            row["verdict"] = ratio.verdict
    return plain
