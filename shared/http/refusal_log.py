"""Logs refused requests, a bounded number of lines a second, and how many were left out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger()

LINES_PER_SECOND_MAX = 50


class RefusalLog:
    """Writes `http.refused` for the first requests of each second and counts the others.

    Otherwise a flood of refused requests costs a line each: disk, and processor time that other
    requests need. The count follows with the next refused request of another second.
    """

    def __init__(
        self,
        lines_per_second_max: int = LINES_PER_SECOND_MAX,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lines_per_second_max = lines_per_second_max
        self._now = now
        self._second = 0
        self._refused = 0

    def write(self, fields: Callable[[], dict[str, Any]]) -> None:
        """Log a refused request with its fields, which are made only where they are written."""
        second = int(self._now())
        if second != self._second:
            left_out = self._refused - self._lines_per_second_max
            if left_out > 0:
                log.warning("http.refusals_not_logged", count=left_out)
            self._second, self._refused = second, 0
        self._refused += 1
        if self._refused <= self._lines_per_second_max:
            log.info("http.refused", **fields())
