"""Refused requests cost a bounded number of log lines."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from shared.http.refusal_log import RefusalLog


def test_a_flood_of_refused_requests_costs_few_lines_a_second_and_its_count_is_logged() -> None:
    """R15, R16: the lines of a flood filled the disk and took the time of signed deliveries."""
    second = 7.0
    made = 0

    def fields() -> dict[str, Any]:
        nonlocal made
        made += 1
        return {"number": made}

    refusals = RefusalLog(lines_per_second_max=3, now=lambda: second)
    with capture_logs() as logs:
        for _ in range(100):
            refusals.write(fields)
        second = 8.2
        refusals.write(fields)
    assert [entry["event"] for entry in logs] == [
        *3 * ["http.refused"],
        "http.refusals_not_logged",
        "http.refused",
    ]
    assert [entry["number"] for entry in logs if "number" in entry] == [1, 2, 3, 4]
    assert logs[3]["count"] == 97
