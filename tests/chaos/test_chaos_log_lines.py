"""A run fails at a line of a log that means a bug."""

from __future__ import annotations

import re
from pathlib import Path

from tests.chaos.log_lines import UNEXPECTED, unexpected_lines

ROOT = Path(__file__).parents[2]


def test_a_line_that_means_a_bug_is_found(tmp_path: Path) -> None:
    bug = '{"event":"drainer.failed","level":"error"}'
    (tmp_path / "worker-0.0.log").write_text(f'{{"event":"events.applied"}}\n{bug}\n{{"event":"dr')
    (tmp_path / "stripe.log").write_text("Traceback (most recent call last):\n")
    assert unexpected_lines(tmp_path.glob("*.log")) == [f"worker-0.0.log: {bug}"]


def test_the_product_logs_each_of_these_lines() -> None:
    rooms = ("api", "shared", "webhooks", "worker")
    code = "".join(path.read_text() for room in rooms for path in (ROOT / room).rglob("*.py"))
    logged = set(re.findall(r'log\.\w+\(\s*"([a-z_.]+)"', code))
    assert logged >= UNEXPECTED
