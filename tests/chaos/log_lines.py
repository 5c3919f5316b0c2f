"""What the processes of a run must not log, whatever befalls their servers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

UNEXPECTED = frozenset(
    {
        "drainer.failed",
        "expirer.failed",
        "http.failed",
        "invariants.broken",
        "listener.job_refused",  # nobody else writes to this Redis
        "outbound.failed",
        "recharge.failed_unexpectedly",
        "recharge.not_credited",
        "verifier.problem",
        "worker.loop_failed",
    }
)


def unexpected_lines(logs: Iterable[Path]) -> list[str]:
    """Return the lines of logs that mean a bug, each with the name of its log."""
    found = []
    for log in sorted(logs):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            # A killed process leaves part of a line; the simulator's log is no JSON.
            with suppress(ValueError):
                if line.startswith("{") and json.loads(line).get("event") in UNEXPECTED:
                    found.append(f"{log.name}: {line}")
    return found
